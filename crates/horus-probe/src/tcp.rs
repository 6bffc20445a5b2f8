//! The TCP beat: a connect. It proves that the kernel accepts, and nothing about the program: a program that is stopped
//! by a signal passes it.

use std::time::Duration;

use horus_core::plan::TcpBeat;
use tokio::time::Instant;

use crate::sign::{Miss, Sign};
use crate::target::Target;

/// `heartbeat.tcp` and `check.tcp`.
#[derive(Debug)]
pub(crate) struct TcpProbe {
    target: Target,
    timeout: Duration,
}

impl TcpProbe {
    pub(crate) fn new(beat: &TcpBeat) -> Result<Self, Miss> {
        Ok(Self { target: Target::parse(&beat.address)?, timeout: beat.timeout })
    }

    pub(crate) async fn poll(&mut self) -> Result<Sign, Miss> {
        self.target
            .connect(self.timeout, Instant::now() + self.timeout)
            .await
            .map(|_connection| Sign::default())
    }
}
