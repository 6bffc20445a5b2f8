//! The socket: who may listen, and what is said.

use crate::keeper::client::{Client, ClientError};
use crate::keeper::slot::Slot;
use crate::keeper::{ACCEPTS_A_TURN, Keeper, MAX_COMPLAINTS, TOKEN_CLIENT, killing};
use crate::protocol::{CAN_LIMIT, CAN_LOCK, Event, Hello, MAX_REMARKS, PROTOCOLS};
use crate::slots;
use horus_sys::poll::Interest;
use horus_sys::{peer, user};
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

impl Keeper {
    /// Takes newcomers of our own user (or root); the last one becomes the client, the one before is told and dropped.
    pub(crate) fn accept(&mut self) {
        for _ in 0..ACCEPTS_A_TURN {
            let Ok((stream, _)) = self.listener.accept() else { return };
            let pid = match friend(&stream) {
                Ok(pid) => pid,
                Err(uid) => {
                    self.complain(&format!("user {uid} tried to connect"));
                    continue;
                }
            };
            self.tell(Event::Replaced);
            self.client = None;
            let Ok(client) = Client::new(stream, pid) else { continue };
            if self.poller.add(client.as_fd(), TOKEN_CLIENT, Interest::Read).is_err() {
                continue;
            }
            self.client = Some(client);
            self.forget_what_waits();
            self.name_client_in_locks();
            self.tell(Event::Hello(self.hello()));
        }
    }

    pub(crate) fn hello(&self) -> Hello {
        let slots = || self.names.values().filter_map(|index| self.slot(*index));
        Hello {
            protocol: PROTOCOLS.oldest,
            protocols: Some(PROTOCOLS),
            formats: slots::formats(),
            keeper_version: env!("CARGO_PKG_VERSION").to_owned(),
            executable: self.executable.clone(),
            process: self.me,
            upgrades: self.upgrades,
            cgroup: self.cgroup.is_some(),
            home: self.cgroup.as_ref().map(|root| root.path().display().to_string()),
            controllers: self.controllers.clone(),
            can: [CAN_LOCK, CAN_LIMIT].map(str::to_owned).to_vec(),
            slots: slots().filter_map(Slot::view).collect(),
            unreadable: slots().filter_map(Slot::unreadable).collect(),
            remarks: self.remarks.clone(),
        }
    }

    pub(crate) fn receive(&mut self) {
        if let Some(Err(error)) = self.client.as_mut().map(Client::receive) {
            self.serve(); // what it said before it left counts
            self.drop_client(&error);
        }
    }

    /// Tells the client, if there is one. Never waits.
    pub(crate) fn tell(&mut self, event: Event) {
        if let Some(Err(error)) = self.client.as_mut().map(|client| client.send(&event)) {
            self.drop_client(&error);
        }
    }

    pub(crate) fn flush(&mut self) {
        if let Some(Err(error)) = self.client.as_mut().map(Client::flush) {
            self.drop_client(&error);
        }
        if let Some(client) = &self.client {
            let interest = if client.is_behind() { Interest::ReadWrite } else { Interest::Read };
            let _ = self.poller.change(client.as_fd(), TOKEN_CLIENT, interest);
        }
    }

    pub(crate) fn drop_client(&mut self, error: &ClientError) {
        if !matches!(error, ClientError::Closed) {
            self.complain(&format!("client dropped: {}", killing::chain(error)));
        }
        self.client = None;
    }

    pub(crate) fn degraded(&mut self, index: usize, error: &str) {
        if let Some(slot) = self.slot(index).map(|slot| slot.name.clone()) {
            self.complain(&format!("slot {slot}: {error}"));
            self.tell(Event::Degraded { slot, error: error.to_owned() });
        }
    }

    /// Something that a person should know, found before anybody listened: in the keeper's log and in every Hello.
    pub(crate) fn remark(&mut self, text: String) {
        self.complain(&text);
        if self.remarks.len() < MAX_REMARKS {
            self.remarks.push(text);
        }
    }

    /// A line in the keeper's own log, as long as there are not too many.
    pub(crate) fn complain(&mut self, text: &str) {
        self.complaints = self.complaints.saturating_add(1);
        if self.complaints <= MAX_COMPLAINTS {
            let _ = writeln!(io::stderr(), "keeper {}: {text}", self.me.pid);
        }
    }
}

/// The pid of somebody of our own user (or root); of anybody else the user id.
pub(crate) fn friend(stream: &UnixStream) -> Result<i32, u32> {
    match peer::peer_credentials(stream) {
        Ok(found) if found.uid == user::effective_uid() || found.uid == 0 => Ok(found.pid),
        Ok(found) => Err(found.uid),
        Err(_) => Err(u32::MAX),
    }
}

/// Opens a socket.
pub(crate) fn listen(socket: &Path) -> io::Result<UnixListener> {
    // Bound under another name and renamed, so that the socket's name always leads to a listener, old or new.
    let temporary = socket.with_extension(format!("tmp-{}", std::process::id()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(&temporary, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    fs::rename(&temporary, socket)?;
    Ok(listener)
}
