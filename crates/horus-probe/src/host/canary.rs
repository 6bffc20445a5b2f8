//! A port that always answers, asked by the code that asks the programs.
//!
//! When it does not answer, the fault is on this side: no descriptor left, no memory for sockets, a firewall across
//! loopback, a runtime that is stuck. Then a program's missing answer proves nothing. Each question goes over a fresh
//! connection, because a kept one would outlive exactly these faults.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::http::HttpAsker;
use crate::sign::Miss;
use crate::text;

/// An answer over loopback that takes longer is none.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A fault is told after so many misses in a row: one may be a moment in which this process was stopped.
const MISSES_MIN: u32 = 2;

/// How many connections the port serves at once. Anybody on this machine may connect.
const CONNECTIONS_MAX: usize = 8;

/// A question takes at most so long to arrive and to be answered.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest question, in bytes.
const QUESTION_BYTES_MAX: usize = 1 << 10;

/// The pause after a connection that could not be accepted: there is no descriptor, and trying at once spins.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// The port, and what became of the last questions.
#[derive(Debug, Default)]
pub(super) struct Canary {
    port: Option<Port>,
    tally: Tally,
}

impl Canary {
    /// Asks once. `Some(Some(fault))`: it does not work, as of now; `Some(None)`: it works again.
    pub(super) async fn look(&mut self) -> Option<Option<String>> {
        let outcome = self.ask().await;
        let news = self.tally.count(outcome);
        match &news {
            Some(Some(fault)) => tracing::warn!(
                fault,
                "Horus cannot ask its own echo port; missing answers prove nothing until it can"
            ),
            Some(None) => tracing::info!("Horus can ask its own echo port again"),
            None => {}
        }
        news
    }

    async fn ask(&mut self) -> Result<(), Miss> {
        let port = match &self.port {
            Some(port) => port,
            None => self.port.insert(Port::open().await?),
        };
        let url = format!("http://{}/", port.address);
        HttpAsker::new(&url, TIMEOUT)?.ask_status(StatusCode::OK).await
    }
}

/// Misses in a row, and whether they were told.
#[derive(Debug, Default)]
struct Tally {
    misses: u32,
    told: bool,
}

impl Tally {
    fn count(&mut self, outcome: Result<(), Miss>) -> Option<Option<String>> {
        match outcome {
            Ok(()) => {
                self.misses = 0;
                std::mem::take(&mut self.told).then_some(None)
            }
            Err(Miss { detail, .. }) => {
                self.misses = self.misses.saturating_add(1);
                let tell = self.misses >= MISSES_MIN && !self.told;
                self.told |= tell;
                tell.then(|| Some(text::detail(&detail)))
            }
        }
    }
}

/// A port of loopback that answers every question with 200, until it is dropped.
#[derive(Debug)]
struct Port {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Port {
    async fn open() -> Result<Self, Miss> {
        let fault = |error: std::io::Error| Miss::prober(format!("the echo port cannot be opened: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener));
        Ok(Self { address, _serving: serving })
    }
}

async fn serve(listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(async move {
                    let _place = place;
                    // A peer that goes away or dawdles is no concern of ours.
                    let _ = timeout(CONNECTION_TIMEOUT, answer(stream)).await;
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut question = [0; QUESTION_BYTES_MAX];
    let mut length = 0;
    while !question[..length].ends_with(b"\r\n\r\n") {
        match stream.read(&mut question[length..]).await? {
            // It went away, or asks more than fits.
            0 => return Ok(()),
            count => length += count,
        }
    }
    stream.write_all(ANSWER).await
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn miss() -> Result<(), Miss> {
        Err(Miss::prober("no descriptor"))
    }

    #[test]
    fn a_fault_is_told_after_the_second_miss_in_a_row_and_its_end_at_once() {
        let mut tally = Tally::default();
        let fault = Some(Some("no descriptor".to_owned()));
        assert_eq!(tally.count(Ok(())), None);
        assert_eq!(tally.count(miss()), None);
        assert_eq!(tally.count(Ok(())), None, "one miss is forgotten");
        assert_eq!(tally.count(miss()), None);
        assert_eq!(tally.count(miss()), fault);
        assert_eq!(tally.count(miss()), None, "told once");
        assert_eq!(tally.count(Ok(())), Some(None));
        assert_eq!(tally.count(Ok(())), None, "told once");
        assert_eq!((tally.count(miss()), tally.count(miss())), (None, fault), "and again the next time");
    }

    #[tokio::test]
    async fn the_port_answers_the_asker_of_the_programs() {
        let mut canary = Canary::default();
        for _ in 0..20 {
            assert_eq!(canary.ask().await, Ok(()));
        }
        // Nobody else's patience is ours: dawdlers get their places taken away.
        let address = canary.port.as_ref().unwrap().address;
        let mut dawdlers = Vec::new();
        for _ in 0..CONNECTIONS_MAX - 1 {
            dawdlers.push(TcpStream::connect(address).await.unwrap());
        }
        assert_eq!(canary.ask().await, Ok(()));
    }

    #[tokio::test]
    async fn a_port_that_is_gone_is_a_fault_until_it_is_back() {
        let mut canary = Canary::default();
        assert_eq!(canary.look().await, None);
        let port = canary.port.as_mut().unwrap();
        port._serving.shutdown().await;
        assert_eq!(canary.look().await, None);
        let fault = canary.look().await.flatten().unwrap();
        assert!(fault.contains("refused"), "{fault}");
        canary.port = None;
        assert_eq!(canary.look().await, Some(None));
    }

    /// A question in pieces is answered, one that is too long is not waited for, and a dawdler is sent away.
    #[tokio::test]
    async fn strangers_get_little() {
        let port = Port::open().await.unwrap();
        let mut slow = TcpStream::connect(port.address).await.unwrap();
        for piece in [b"GET / HTTP/1.1\r\n".as_slice(), b"host: a\r\n\r", b"\n"] {
            slow.write_all(piece).await.unwrap();
            slow.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut said = Vec::new();
        slow.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, ANSWER);
        for (question, waited_for) in [(vec![b'x'; QUESTION_BYTES_MAX + 1], false), (Vec::new(), true)] {
            let asked = Instant::now();
            let mut stranger = TcpStream::connect(port.address).await.unwrap();
            stranger.write_all(&question).await.unwrap();
            let mut said = Vec::new();
            // Closed with unread bytes: a reset is as good an end as any.
            let _ = stranger.read_to_end(&mut said).await;
            assert_eq!(said, b"");
            assert_eq!(asked.elapsed() >= CONNECTION_TIMEOUT, waited_for);
        }
    }
}
