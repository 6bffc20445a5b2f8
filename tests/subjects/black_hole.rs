//! An endpoint for a prober to fall into: `--mode never | drip | huge | garbage | redirect | error | page`.

#![forbid(unsafe_code)]

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use horus_tests::subject::{Options, rest};

fn main() -> io::Result<()> {
    let options = Options::from_command_line();
    let mode = options.text("--mode").unwrap_or("never").to_owned();
    let listener = TcpListener::bind(("127.0.0.1", options.port()))?;
    for stream in listener.incoming() {
        let (stream, mode) = (stream?, mode.clone());
        // Whoever asked may have gone away.
        std::thread::spawn(move || drop(swallow(stream, &mode)));
    }
    Ok(())
}

fn swallow(mut stream: TcpStream, mode: &str) -> io::Result<()> {
    let mut request = [0; 4096];
    while stream.read(&mut request)? > 0 {
        match mode {
            "drip" => {
                for byte in
                    b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".iter().chain([b' '].iter().cycle())
                {
                    stream.write_all(&[*byte])?;
                    rest(Duration::from_secs(1));
                }
            }
            "huge" => {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n{{\"seq\":")?;
                for _ in 0..10_485_752 / 8 {
                    stream.write_all(b"11111111")?;
                }
            }
            "garbage" => stream.write_all(b"\x00\xff\xfe\x16\x03\x01 this is no HTTP at all \r\n\r\n")?,
            "redirect" => stream.write_all(
                b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/elsewhere\r\nContent-Length: 0\r\n\r\n",
            )?,
            "error" => {
                stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")?
            }
            "page" => {
                let page = "<html><title>Welcome</title></html>";
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len())?;
            }
            // Never: the question is read, and that is all.
            _ => {}
        }
    }
    Ok(())
}
