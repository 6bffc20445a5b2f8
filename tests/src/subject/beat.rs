//! A beat endpoint that lives in the loop that it vouches for: it answers only while somebody calls [`Beat::turn`].
//! Standard library only, so that a subject is nothing but its fault.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// How long one turn of a subject's loop takes.
pub const TURN: Duration = Duration::from_millis(20);

/// Longest request that is read; the prober's has a few hundred bytes.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// An endpoint at `/` of a port of 127.0.0.1.
#[derive(Debug)]
pub struct Beat {
    listener: Option<TcpListener>,
    open: Vec<(TcpStream, Vec<u8>)>,
    /// The tick.
    pub seq: u64,
    /// Takes connections, answers none.
    pub muted: bool,
    /// What it says of itself, as fields of the beat.
    pub declares: String,
}

impl Beat {
    /// Listens.
    ///
    /// # Errors
    /// The port is taken.
    pub fn at(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: Some(listener),
            open: Vec::new(),
            seq: 0,
            muted: false,
            declares: r#""state":"ok""#.into(),
        })
    }

    /// One turn of the loop: moves the tick, answers who has asked, rests for [`TURN`].
    pub fn turn(&mut self) {
        self.seq += 1;
        self.answer();
        rest(TURN);
    }

    /// Is not to be reached any more, and works on.
    pub fn hide(&mut self) {
        self.listener = None;
        self.open.clear();
    }

    /// Answers without moving the tick.
    pub fn answer(&mut self) {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(TcpListener::accept) {
            if stream.set_nonblocking(true).is_ok() {
                self.open.push((stream, Vec::new()));
            }
        }
        if self.muted {
            return;
        }
        let (seq, declares) = (self.seq, &self.declares);
        let body = format!(r#"{{"schema":1,"seq":{seq},{declares},"progress":{{"turns":{seq}}}}}"#);
        self.open.retain_mut(|(stream, request)| serve(stream, request, &body));
    }
}

/// False when the connection is over.
fn serve(stream: &mut TcpStream, request: &mut Vec<u8>, body: &str) -> bool {
    let mut piece = [0; 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return false,
            Ok(count) => request.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) => return false,
        }
        if request.len() > REQUEST_BYTES_MAX {
            return false;
        }
    }
    if !request.ends_with(b"\r\n\r\n") {
        return true;
    }
    request.clear();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).is_ok()
}

/// Sleeps.
#[expect(clippy::disallowed_methods, reason = "a subject paces its loop like any naive program")]
pub fn rest(length: Duration) {
    std::thread::sleep(length);
}
