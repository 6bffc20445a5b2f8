//! Fifty programs of several kinds, all of which keep books ([`survivor`](../subjects/survivor.rs)).

use horus_tests::Rig;

/// Lines that the loud one writes each second.
const LOUD: u64 = 20_000;

/// How often so many of each kind are there: fifty together.
const KINDS: [(Kind, usize); 7] = [
    (Kind::Loud, 1),
    (Kind::Talks, 7),
    (Kind::Beats, 14),
    (Kind::Quiet, 12),
    (Kind::Ends, 8),
    (Kind::Job, 4),
    (Kind::Held, 4),
];

/// What a service is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Writes [`LOUD`] numbered lines a second.
    Loud,
    /// Writes a hundred a second, and beats.
    Talks,
    /// Beats.
    Beats,
    /// Says nothing.
    Quiet,
    /// Ends by itself after a second or three, with a code that it has written down, and is started again: a crash loop.
    Ends,
    /// A run each four seconds.
    Job,
    /// A person holds it: two of them while they run, two while they do not.
    Held,
}

/// A service of the fleet.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: String,
    /// Its kind.
    pub(crate) kind: Kind,
}

impl Member {
    /// A held one that was stopped before.
    pub(crate) fn is_down(&self) -> bool {
        self.kind == Kind::Held && self.name.ends_with(['0', '1'])
    }

    /// It lives from its first start on, whatever happens.
    pub(crate) fn lives_on(&self) -> bool {
        !matches!(self.kind, Kind::Ends | Kind::Job) && !self.is_down()
    }
}

/// All of them.
pub(crate) fn members() -> Vec<Member> {
    let of_kind = |(kind, count): (Kind, usize)| {
        let word = format!("{kind:?}").to_lowercase();
        (0..count).map(move |number| Member { name: format!("{word}-{number}"), kind })
    };
    KINDS.into_iter().flat_map(of_kind).collect()
}

/// Their part of the configuration.
pub(crate) fn configuration(rig: &Rig) -> String {
    let room = rig.room.path("").display().to_string();
    members().iter().map(|member| service(rig, &room, member)).collect()
}

fn service(rig: &Rig, room: &str, member: &Member) -> String {
    let (name, kind) = (&member.name, member.kind);
    let mut command =
        vec![rig.program("survivor"), "--name".into(), name.clone(), "--room".into(), room.into()];
    let mut add = |option: &str, value: u64| command.extend([option.into(), value.to_string()]);
    let mut keys = String::new();
    match kind {
        Kind::Loud => add("--rate", LOUD),
        Kind::Talks => add("--rate", 100),
        Kind::Ends => [("--life", 1_000), ("--spread", 2_000)].into_iter().for_each(|(o, v)| add(o, v)),
        Kind::Job => [("--life", 500), ("--spread", 1_000)].into_iter().for_each(|(o, v)| add(o, v)),
        Kind::Beats | Kind::Quiet | Kind::Held => {}
    }
    if matches!(kind, Kind::Talks | Kind::Beats) {
        let port = rig.room.port();
        add("--port", u64::from(port));
        keys = format!(
            "heartbeat.http = {{ url = \"http://127.0.0.1:{port}/\", every = \"1s\", seq = \"/seq\" }}\ndeadline = \"30s\"\n"
        );
    }
    keys += match kind {
        Kind::Ends => "restart = { first = \"100ms\", next = \"100ms\", max = \"200ms\", crash_loop = 5 }\n",
        Kind::Job => "schedule = { every = \"4s\", finish = \"60s\" }\n",
        _ => "",
    };
    // The files hold all that is written while the chaos lasts, and are rotated every few seconds.
    let max_size = if kind == Kind::Loud { "2MiB" } else { "16MiB" };
    let command = serde_json::to_string(&command).unwrap();
    format!(
        "[service.{name}]\ncommand = {command}\nlog = {{ max_size = \"{max_size}\", keep = 99 }}\n{keys}\n"
    )
}
