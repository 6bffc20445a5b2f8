//! The pulled beat: `GET /heartbeat` over HTTP/1.1, in the program's runtime or in a thread of its own. A
//! stranger cannot make it grow: connections, header bytes and header time are limited, bodies are never
//! read.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::{Beat, Shared, meter};

/// How many connections are served at once; one more is closed at once.
pub const MAX_CONNECTIONS: usize = 32;

/// The largest request head, in bytes; a larger one gets 431 and is closed.
pub const MAX_HEADER_BYTES: usize = 8192;

/// How long a connection may take to send a request head, also between two requests. Longer than the usual
/// polling interval, so a keep-alive poller is not cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);

/// How long to wait when `accept` fails (out of descriptors) before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The JSON body for a path, if there is such a page.
type Pages = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Why the beat could not be served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address could not be bound.
    #[error("the beat endpoint cannot listen on {address}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The lag meter has to run in the runtime that it measures, and there is none here.
    #[error("the beat must be served from within a tokio runtime")]
    NoRuntime,
    /// The thread of the endpoint could not be started.
    #[error("the thread of the beat endpoint did not start")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
}

/// Keeps the beat going; dropping it stops the endpoint, the lag meter and the pushes.
#[derive(Debug)]
#[must_use = "the beat stops when this is dropped"]
pub struct Beating {
    tasks: Vec<JoinHandle<()>>,
    thread: Option<oneshot::Sender<Infallible>>,
    address: Option<SocketAddr>,
}

impl Beating {
    /// Where the endpoint listens; `None` for [`Beat::attach`].
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        // The thread waits on the other end and leaves when this one is gone.
        drop(self.thread.take());
    }
}

impl Beat {
    /// Starts the lag meter and the pushes (when there is a socket) in this runtime, without an endpoint.
    ///
    /// # Errors
    /// [`ServeError::NoRuntime`] outside of a tokio runtime.
    pub fn attach(&self) -> Result<Beating, ServeError> {
        let runtime = runtime()?;
        let tasks = vec![
            runtime.spawn(meter::run(Arc::clone(self.shared()))),
            runtime.spawn(push(Arc::clone(self.shared()))),
        ];
        Ok(Beating { tasks, thread: None, address: None })
    }

    /// Serves `GET /heartbeat` on `address` from this runtime: if the runtime is blocked, the beat is silent.
    /// Also [attaches](Beat::attach).
    ///
    /// # Errors
    /// The address cannot be bound, or there is no runtime here.
    pub fn serve(&self, address: SocketAddr) -> Result<Beating, ServeError> {
        self.serve_with(address, |_| None)
    }

    /// As [`Beat::serve`], with a few read-only pages of the program's own beside `/heartbeat`: `pages` gives
    /// the JSON body for a path, `None` is 404. It must not block. A program that wants more than this wants
    /// its own server and [`Beat::answer`].
    ///
    /// # Errors
    /// The address cannot be bound, or there is no runtime here.
    pub fn serve_with(
        &self,
        address: SocketAddr,
        pages: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Beating, ServeError> {
        let mut beating = self.attach()?;
        let (listener, bound) = bind(address)?;
        beating.tasks.push(runtime()?.spawn(accept(listener, self.clone(), Arc::new(pages))));
        beating.address = Some(bound);
        Ok(beating)
    }

    /// Serves (and pushes) from a thread with a small runtime of its own: it goes on while this runtime is
    /// blocked, with a tick that stands still and a lag that grows. The lag meter stays in this runtime.
    ///
    /// # Errors
    /// The address cannot be bound, the thread cannot be started, or there is no runtime here.
    pub fn serve_from_thread(&self, address: SocketAddr) -> Result<Beating, ServeError> {
        let runtime = runtime()?;
        // Bound in this thread, so that the caller learns of a taken port.
        let std_listener = std_bind(address)?;
        let bound = std_listener.local_addr().map_err(|source| ServeError::Bind { address, source })?;
        let own = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| ServeError::Thread { source })?;
        let listener = {
            let _inside = own.enter();
            TcpListener::from_std(std_listener).map_err(|source| ServeError::Bind { address, source })?
        };
        let (stop, stopped) = oneshot::channel::<Infallible>();
        let beat = self.clone();
        std::thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(move || {
                own.block_on(async move {
                    tokio::select! {
                        () = accept(listener, beat.clone(), Arc::new(|_: &str| None)) => (),
                        () = push(Arc::clone(beat.shared())) => (),
                        _ = stopped => (),
                    }
                });
            })
            .map_err(|source| ServeError::Thread { source })?;
        let meter = runtime.spawn(meter::run(Arc::clone(self.shared())));
        Ok(Beating { tasks: vec![meter], thread: Some(stop), address: Some(bound) })
    }
}

fn runtime() -> Result<Handle, ServeError> {
    Handle::try_current().map_err(|_| ServeError::NoRuntime)
}

fn std_bind(address: SocketAddr) -> Result<StdListener, ServeError> {
    let bind_error = |source| ServeError::Bind { address, source };
    let listener = StdListener::bind(address).map_err(bind_error)?;
    listener.set_nonblocking(true).map_err(bind_error)?;
    Ok(listener)
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let bind_error = |source| ServeError::Bind { address, source };
    let listener = TcpListener::from_std(std_bind(address)?).map_err(bind_error)?;
    let bound = listener.local_addr().map_err(bind_error)?;
    Ok((listener, bound))
}

/// Pushes a beat every interval; ends at once, and stays ended, when there is no socket.
async fn push(shared: Arc<Shared>) {
    let Some(every) = shared.notifier.as_ref().map(|notifier| notifier.every) else {
        return std::future::pending().await;
    };
    let mut timer = tokio::time::interval(every);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The tick of a program that has not turned yet is 0, so the first datagram vouches for nothing.
    let mut told = 0;
    loop {
        timer.tick().await;
        told = shared.push_beat(told);
    }
}

async fn accept(listener: TcpListener, beat: Beat, pages: Pages) {
    // Owned here, so that they end with this task.
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
                connections.spawn(connection(stream, beat.clone(), Arc::clone(&pages)));
            }
            Ok(_) => (),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, beat: Beat, pages: Pages) {
    let service = hyper::service::service_fn(move |request| {
        let (beat, pages) = (beat.clone(), Arc::clone(&pages));
        async move { Ok::<_, Infallible>(respond(&request, &beat, &pages).await) }
    });
    // An error here is the peer's: it went away, spoke nonsense or was too slow.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(request: &Request<Incoming>, beat: &Beat, pages: &Pages) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let body = match request.uri().path() {
        "/heartbeat" => Some(beat.answer().await),
        path => pages(path),
    };
    match body {
        Some(json) => {
            *response.body_mut() = Full::from(json);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}
