//! The outbox against a model that is too simple to be wrong, through restarts and disk faults.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SINKS: [&str; 2] = ["ops", "phone"];

#[derive(Clone, Debug)]
enum Step {
    Tell {
        incident: u64,
        sink: usize,
        needs_you: bool,
    },
    /// The result of a try of the wanted version, or of the one before it.
    Settle {
        incident: u64,
        sink: usize,
        older: bool,
        delivery: Kind,
    },
    Later(i64),
    Restart,
    Break,
    Heal,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Delivered,
    Retry(i64),
    Refused,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![3 => Just(Kind::Delivered), 2 => (1..60_i64).prop_map(Kind::Retry), 1 => Just(Kind::Refused)];
    prop_oneof![
        6 => (0..3_u64, 0..2_usize, any::<bool>())
            .prop_map(|(incident, sink, needs_you)| Step::Tell { incident, sink, needs_you }),
        6 => (0..3_u64, 0..2_usize, prop::bool::weighted(0.2), kind)
            .prop_map(|(incident, sink, older, delivery)| Step::Settle { incident, sink, older, delivery }),
        2 => (1..40_i64).prop_map(Step::Later),
        1 => Just(Step::Restart),
        1 => Just(Step::Break),
        1 => Just(Step::Heal),
    ]
}

#[derive(Debug)]
struct Message {
    wanted: u32,
    needs_you: bool,
    opened: i64,
    happened: i64,
    delivered: Option<u32>,
    attempts: u32,
    next_try: i64,
    refused: bool,
}

impl Message {
    fn is_open(&self) -> bool {
        !self.refused && self.delivered != Some(self.wanted)
    }
}

#[derive(Default)]
struct Model {
    now: i64,
    broken: bool,
    messages: BTreeMap<(usize, u64), Message>,
}

impl Model {
    fn tell(&mut self, incident: u64, sink: usize, needs_you: bool) -> Notice {
        let now = self.now;
        let message = self.messages.entry((sink, incident)).or_insert(Message {
            wanted: 0,
            needs_you,
            opened: now,
            happened: now,
            delivered: None,
            attempts: 0,
            next_try: now,
            refused: false,
        });
        let wanted = message.wanted + 1;
        *message = Message {
            wanted,
            needs_you,
            opened: message.opened,
            happened: now,
            delivered: message.delivered,
            attempts: 0,
            next_try: now,
            refused: false,
        };
        Notice { needs_you, ..notice(IncidentId::nth(incident), wanted) }
    }

    /// The version that is settled and what is said of it.
    fn settle(&mut self, incident: u64, sink: usize, older: bool, kind: Kind) -> Option<(u32, Delivery)> {
        let now = self.now;
        let message = self.messages.get_mut(&(sink, incident))?;
        let version = message.wanted - u32::from(older);
        if version == 0 {
            return None;
        }
        let open = message.is_open();
        match kind {
            Kind::Delivered if open => message.delivered = message.delivered.max(Some(version)),
            Kind::Retry(after) if open && !older => {
                message.attempts += 1;
                message.next_try = now + after;
            }
            Kind::Refused if open && !older => {
                message.attempts += 1;
                message.refused = true;
            }
            _ => {}
        }
        let delivery = match kind {
            Kind::Delivered => delivered("m"),
            Kind::Retry(after) => retry_at(now + after),
            Kind::Refused => Delivery::Refused { error: "status 400".into() },
        };
        Some((version, delivery))
    }

    fn due(&self, sink: usize) -> Option<(IncidentId, u32, Option<u32>, u32)> {
        let open = self.messages.iter().filter(|((to, _), message)| *to == sink && message.is_open());
        let due = open.filter(|(_, message)| message.next_try <= self.now);
        let first = due.min_by_key(|((_, incident), message)| {
            (!message.needs_you, message.opened, message.happened, IncidentId::nth(*incident))
        });
        first.map(|((_, incident), message)| {
            (IncidentId::nth(*incident), message.wanted, message.delivered, message.attempts)
        })
    }
}

fn compare(bench: &Bench, model: &Model) {
    for (index, name) in SINKS.iter().enumerate() {
        let item = bench.store.due(&sink(name), at(model.now));
        let item = item
            .map(|item| (item.notice.incident, item.notice.version, item.delivered_version, item.attempts));
        assert_eq!(item, model.due(index), "due at {name}");
        let open = model.messages.iter().filter(|((to, _), message)| *to == index && message.is_open());
        let next = open.map(|(_, message)| at(message.next_try)).min();
        assert_eq!(bench.store.next_due_at(&sink(name)), next, "next due at {name}");
    }
    let open = model.messages.values().filter(|message| message.is_open()).count();
    assert_eq!(bench.store.pending().len(), open);
}

fn heal(bench: &Bench, model: &mut Model) {
    bench.store.shared.faults.io.store(false, Ordering::SeqCst);
    model.broken = false;
    bench.flushed();
}

fn take(bench: Bench, model: &mut Model, step: Step) -> Bench {
    match step {
        Step::Tell { incident, sink: index, needs_you } => {
            let news = model.tell(incident, index, needs_you);
            while bench.said.try_recv().is_ok() {}
            bench.store.commit(tell(model.now, SINKS[index], news));
            bench.wait_for(|said| *said == Said::Outbox(sink(SINKS[index])));
        }
        Step::Settle { incident, sink: index, older, delivery } => {
            if let Some((version, delivery)) = model.settle(incident, index, older, delivery) {
                let id = IncidentId::nth(incident);
                bench.store.settle(&sink(SINKS[index]), id, version, delivery, at(model.now));
            }
        }
        Step::Later(seconds) => model.now += seconds,
        Step::Restart => {
            heal(&bench, model);
            return bench.reopened();
        }
        Step::Break => {
            bench.store.shared.faults.io.store(true, Ordering::SeqCst);
            model.broken = true;
        }
        Step::Heal => heal(&bench, model),
    }
    bench
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_outbox_is_what_the_model_says(steps in prop::collection::vec(step(), 1..40)) {
        let mut bench = Bench::new();
        let mut model = Model::default();
        for step in steps {
            bench = take(bench, &mut model, step);
            compare(&bench, &model);
        }
        heal(&bench, &mut model);
        let bench = bench.reopened();
        compare(&bench, &model);
    }
}
