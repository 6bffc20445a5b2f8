//! Those who only look: they get one Hello at a socket of their own and are let go. The client is not disturbed.

use crate::keeper::client::Client;
use crate::keeper::{ACCEPTS_A_TURN, Keeper, TOKEN_OBSERVER, talking};
use crate::protocol::Event;
use horus_sys::clock;
use horus_sys::poll::Interest;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// Most observers who have not taken their Hello yet; the next one is turned away.
const MAX_OBSERVERS: usize = 8;
/// How long one may take to read.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Observers {
    listener: UnixListener,
    reading: Vec<Observer>,
}

#[derive(Debug)]
struct Observer {
    connection: Client,
    until: Duration,
}

impl Observers {
    pub(crate) fn new(listener: UnixListener) -> Self {
        Self { listener, reading: Vec::new() }
    }

    /// Another listening socket from now on.
    pub(crate) fn listen_on(&mut self, listener: UnixListener) {
        self.listener = listener;
    }

    /// The listening socket.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// When the slowest is given up.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.reading.iter().map(|observer| observer.until).min()
    }

    /// Sends what they take; who has all of it, failed or dawdles is let go.
    pub(crate) fn serve(&mut self, now: Duration) {
        self.reading.retain_mut(|observer| {
            observer.connection.flush().is_ok() && observer.connection.is_behind() && observer.until > now
        });
    }
}

impl Keeper {
    pub(crate) fn admit_observers(&mut self) {
        for _ in 0..ACCEPTS_A_TURN {
            let Ok((stream, _)) = self.observers.listener.accept() else { return };
            if self.observers.reading.len() >= MAX_OBSERVERS || talking::friend(&stream).is_err() {
                continue;
            }
            let Ok(mut connection) = Client::new(stream, 0) else { continue };
            let sent = connection.send(&Event::Hello(self.hello()));
            let watched = self.poller.add(connection.as_fd(), TOKEN_OBSERVER, Interest::ReadWrite);
            if sent.is_ok() && watched.is_ok() {
                self.observers.reading.push(Observer { connection, until: clock::monotonic() + PATIENCE });
            }
        }
    }
}
