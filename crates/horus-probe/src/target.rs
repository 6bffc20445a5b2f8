//! Where a probe connects to, and how a connection comes about or does not.
//!
//! The own TCP code exists for one reason: a client library folds "refused", "accepted, then silent" and "the prober
//! has no descriptor left" into one error, and they are the three most different things that a probe can see.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use horus_core::time::Human;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use crate::limits::{ADDRESSES_MAX, LATENESS_MAX, NAME_LOOKUPS_MAX};
use crate::sign::Miss;

static NAME_LOOKUPS: Semaphore = Semaphore::const_new(NAME_LOOKUPS_MAX);

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    host: Host<Arc<str>>,
    port: u16,
}

/// An `http://` URL taken apart. What a URL may hold of secrets (user, password) is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpTarget {
    pub(crate) target: Target,
    /// `host` or `host:port`, for the `Host` header.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) path: String,
}

impl HttpTarget {
    pub(crate) fn parse(text: &str) -> Result<Self, Miss> {
        let url = Url::parse(text).map_err(|error| Miss::prober(format!("bad URL: {error}")))?;
        if url.scheme() != "http" {
            return Err(Miss::prober(format!("'{}' URLs are not for this probe", url.scheme())));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => Host::Domain(Arc::from(name)),
            Some(Host::Ipv4(ip)) => Host::Ipv4(ip),
            Some(Host::Ipv6(ip)) => Host::Ipv6(ip),
            None => return Err(Miss::prober("the URL names no host")),
        };
        let port = url.port_or_known_default().unwrap_or(80);
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self { target: Target { host, port }, authority, path })
    }
}

impl Target {
    /// Reads `host:port`, `1.2.3.4:80`, `[::1]:80`.
    pub(crate) fn parse(text: &str) -> Result<Self, Miss> {
        let bad = || Miss::prober(format!("'{}' is no host:port", crate::text::one_line(text, 80)));
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        let host = match Host::parse(host).map_err(|_| bad())? {
            Host::Domain(name) => Host::Domain(Arc::from(name)),
            Host::Ipv4(ip) => Host::Ipv4(ip),
            Host::Ipv6(ip) => Host::Ipv6(ip),
        };
        Ok(Self { host, port })
    }

    /// The addresses to try. Only a real name needs the resolver; `localhost` never does.
    async fn addresses(&self, until: Instant) -> Result<Vec<SocketAddr>, Miss> {
        let at = |ip: IpAddr| SocketAddr::new(ip, self.port);
        let name = match &self.host {
            Host::Ipv4(ip) => return Ok(vec![at(IpAddr::V4(*ip))]),
            Host::Ipv6(ip) => return Ok(vec![at(IpAddr::V6(*ip))]),
            Host::Domain(name) if name.eq_ignore_ascii_case("localhost") => {
                return Ok(vec![at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into())]);
            }
            Host::Domain(name) => Arc::clone(name),
        };
        let Ok(Ok(place)) = timeout_at(until, NAME_LOOKUPS.acquire()).await else {
            return Err(Miss::prober("too many name look-ups hang already"));
        };
        let port = self.port;
        let asked = Arc::clone(&name);
        // The resolver cannot be cancelled: the place is given back when it returns, not when we stop waiting.
        let lookup = tokio::task::spawn_blocking(move || {
            let _place = place;
            (&*asked, port).to_socket_addrs().map(|all| all.take(ADDRESSES_MAX).collect::<Vec<_>>())
        });
        match timeout_at(until, lookup).await {
            Ok(Ok(Ok(addresses))) if !addresses.is_empty() => Ok(addresses),
            Ok(Ok(Ok(_))) => Err(Miss::no_path(format!("the name {name} has no address"))),
            Ok(Ok(Err(error))) => Err(Miss::no_path(format!("the name {name} is not found: {error}"))),
            Ok(Err(_)) => Err(Miss::prober("the name look-up failed inside Horus")),
            Err(_) => Err(Miss::no_path(format!("the look-up of {name} took too long"))),
        }
    }

    /// Connects, to the first address that accepts.
    pub(crate) async fn connect(&self, timeout: Duration, until: Instant) -> Result<TcpStream, Miss> {
        let addresses = self.addresses(until).await?;
        let mut last = Miss::no_path("no address");
        for (nth, address) in addresses.iter().enumerate() {
            // A black hole among the addresses may not use up the time of the others.
            let tries_left = u32::try_from(addresses.len() - nth).unwrap_or(1).max(1);
            let share = until.saturating_duration_since(Instant::now()) / tries_left;
            last = match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) if is_self_connect(&stream) => Miss::no_path("connection refused"),
                Ok(Ok(stream)) => {
                    // A small request must not wait for an acknowledgement.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => connect_fault(&error),
                Err(_) if is_late(until) => own_lateness(),
                Err(_) => Miss::no_path(format!("no connection in {}", Human(timeout))),
            };
        }
        Err(last)
    }
}

/// A connect to a free port of the ephemeral range can meet itself (simultaneous open). Nobody listens there.
fn is_self_connect(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(own), Ok(peer)) if own == peer)
}

/// Did a timer that was set for `until` fire much too late?
pub(crate) fn is_late(until: Instant) -> bool {
    Instant::now().saturating_duration_since(until) > LATENESS_MAX
}

/// A timeout that fired late proves nothing about the other side.
pub(crate) fn own_lateness() -> Miss {
    Miss::prober("Horus itself was late")
}

/// Is it the prober's own trouble, or is nobody there?
pub(crate) fn connect_fault(error: &io::Error) -> Miss {
    use io::ErrorKind as Kind;
    // EMFILE and ENFILE have no kind of their own; their numbers are the same on Linux and macOS.
    const OWN_DESCRIPTORS: [i32; 2] = [24, 23];
    if error.raw_os_error().is_some_and(|number| OWN_DESCRIPTORS.contains(&number)) {
        return Miss::prober("Horus has no file descriptor left");
    }
    match error.kind() {
        Kind::AddrNotAvailable => Miss::prober("no local port left to connect from"),
        Kind::OutOfMemory | Kind::PermissionDenied => Miss::prober(format!("cannot connect: {error}")),
        Kind::ConnectionRefused => Miss::no_path("connection refused"),
        Kind::TimedOut => Miss::no_path("no connection: the kernel gave up"),
        _ => Miss::no_path(format!("no connection: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use horus_core::observation::ProbeFault;

    use super::*;

    #[test]
    fn urls_are_taken_apart_and_lose_their_secrets() {
        let http = HttpTarget::parse("http://me:hunter2@localhost:7801/beat?key=1").unwrap();
        assert_eq!((http.authority.as_str(), http.path.as_str()), ("localhost:7801", "/beat?key=1"));
        assert!(!format!("{http:?}").contains("hunter2"));
        assert_eq!(HttpTarget::parse("http://[::1]:80").unwrap().authority, "[::1]");
        assert_eq!(HttpTarget::parse("https://x/").unwrap_err().fault, ProbeFault::Prober);
        assert_eq!(HttpTarget::parse("nonsense").unwrap_err().fault, ProbeFault::Prober);
    }

    #[test]
    fn addresses_are_read() {
        assert!(Target::parse("localhost:80").is_ok());
        assert!(Target::parse("[::1]:80").is_ok());
        assert!(Target::parse("::1").is_err());
        assert!(Target::parse("localhost").is_err());
        assert!(Target::parse("localhost:99999").is_err());
    }

    #[test]
    fn the_probers_own_trouble_is_not_the_programs() {
        let fault = |number| connect_fault(&io::Error::from_raw_os_error(number)).fault;
        assert_eq!(fault(24), ProbeFault::Prober);
        assert_eq!(connect_fault(&io::ErrorKind::ConnectionRefused.into()).fault, ProbeFault::NoPath);
        assert_eq!(connect_fault(&io::ErrorKind::AddrNotAvailable.into()).fault, ProbeFault::Prober);
        assert_eq!(connect_fault(&io::ErrorKind::HostUnreachable.into()).fault, ProbeFault::NoPath);
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_no_path() {
        let target = Target::parse("no-such-host.invalid:80").unwrap();
        let timeout = Duration::from_secs(20);
        let miss = target.connect(timeout, Instant::now() + timeout).await.unwrap_err();
        assert_eq!(miss.fault, ProbeFault::NoPath, "{}", miss.detail);
    }
}
