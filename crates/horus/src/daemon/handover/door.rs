//! The API's door: open, shut for a moment, or closed for good.
//!
//! While it is shut nobody is served and nobody is refused: the socket goes on listening, and who connects waits in its
//! queue for whichever program opens the door again. Before it shuts, answers that are being given are given.

use std::sync::Arc;

use horus_api::{Backend, Limits, Listener};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Open,
    Shut,
    Closed,
}

/// The handle of the door.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct Door {
    wish: watch::Sender<Wish>,
    serving: watch::Receiver<bool>,
}

/// The other side of it.
#[derive(Debug)]
pub(in crate::daemon) struct Porter {
    wish: watch::Receiver<Wish>,
    serving: watch::Sender<bool>,
}

/// An open door, and who serves behind it.
pub(in crate::daemon) fn new() -> (Door, Porter) {
    let (wish, wished) = watch::channel(Wish::Open);
    let (serving, served) = watch::channel(true);
    (Door { wish, serving: served }, Porter { wish: wished, serving })
}

impl Door {
    /// Shuts it; returns when nobody is being served any more.
    pub(super) async fn shut(&self) {
        self.wish.send_replace(Wish::Shut);
        let mut serving = self.serving.clone();
        // An error means that the porter has gone home, and then nobody is served either.
        let _ = serving.wait_for(|serving| !serving).await;
    }

    /// Opens it again.
    pub(super) fn open(&self) {
        self.wish.send_if_modified(|wish| {
            let shut = *wish == Wish::Shut;
            if shut {
                *wish = Wish::Open;
            }
            shut
        });
    }

    /// Horus ends.
    pub(in crate::daemon) fn close(&self) {
        self.wish.send_replace(Wish::Closed);
    }
}

impl Porter {
    /// Serves whenever the door is open, until it is closed.
    pub(in crate::daemon) async fn serve<B: Backend>(
        mut self,
        listener: Arc<Listener>,
        backend: Arc<B>,
        limits: Limits,
    ) {
        loop {
            self.serving.send_replace(true);
            let mut wish = self.wish.clone();
            let shut = async move { drop(wish.wait_for(|wish| *wish != Wish::Open).await) };
            horus_api::serve(Arc::clone(&listener), Arc::clone(&backend), limits, shut).await;
            self.serving.send_replace(false);
            match self.wish.wait_for(|wish| *wish != Wish::Shut).await.as_deref() {
                Ok(Wish::Open) => {}
                _ => return,
            }
        }
    }
}
