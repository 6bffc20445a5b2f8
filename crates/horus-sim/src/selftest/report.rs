//! What a selftest has found, for people and for programs.

use std::time::Duration;

use serde::Serialize;

/// A word of the judge, and whether it fell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fired {
    /// The word, as in status, journal and alerts.
    pub name: &'static str,
    /// Did it stand in anything that the engine gave out?
    pub fired: bool,
    /// The first situation in which it did.
    pub situation: Option<&'static str>,
    /// The first reason that went with it.
    pub text: Option<String>,
}

impl Fired {
    fn not(name: &'static str) -> Self {
        Self { name, fired: false, situation: None, text: None }
    }

    pub(crate) fn credit(list: &mut [Self], name: &str, situation: &'static str, text: &str) {
        if let Some(word) = list.iter_mut().find(|word| word.name == name && !word.fired) {
            word.fired = true;
            word.situation = Some(situation);
            word.text = Some(text.to_owned());
        }
    }
}

/// What became of every word of the judge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// Rules, in the core's order.
    pub rules: Vec<Fired>,
    /// Verdicts.
    pub verdicts: Vec<Fired>,
    /// Kinds of incidents.
    pub incidents: Vec<Fired>,
    /// Stories that the judge tells.
    pub stories: Vec<Fired>,
    /// How many situations were played.
    pub situations: u32,
    /// How many inputs the engine took in them.
    pub steps: u64,
}

impl Proof {
    pub(crate) fn of_nothing(
        rules: impl Iterator<Item = &'static str>,
        verdicts: impl Iterator<Item = &'static str>,
        incidents: impl Iterator<Item = &'static str>,
        stories: impl Iterator<Item = &'static str>,
    ) -> Self {
        Self {
            rules: rules.map(Fired::not).collect(),
            verdicts: verdicts.map(Fired::not).collect(),
            incidents: incidents.map(Fired::not).collect(),
            stories: stories.map(Fired::not).collect(),
            situations: 0,
            steps: 0,
        }
    }

    /// The lists with their titles.
    pub fn parts(&self) -> [(&'static str, &[Fired]); 4] {
        [
            ("rule", &self.rules),
            ("verdict", &self.verdicts),
            ("incident", &self.incidents),
            ("story", &self.stories),
        ]
    }

    /// What never fired, by its part: it is unproven.
    pub fn unproven(&self) -> Vec<(&'static str, &'static str)> {
        let parts = self.parts().into_iter();
        let unfired = |part| move |word: &Fired| (!word.fired).then_some((part, word.name));
        parts.flat_map(|(part, words)| words.iter().filter_map(unfired(part))).collect()
    }
}

/// What became of one detector of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillState {
    /// It fired.
    Fired,
    /// The plan declares it, and it can never fire.
    Never,
    /// It fires although nothing is wrong.
    FalseAlarm,
    /// The plan gives it nothing to see by. `horus check` warns of what matters there.
    Blind,
}

/// One detector of a plan, fired (or not) with that plan's numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drill {
    /// The service or monitor; `horus` for what concerns all.
    pub subject: String,
    /// What was tested: "silent", "value orders: stale".
    pub detector: String,
    /// What came of it.
    pub state: DrillState,
    /// From the beginning of the fault until it fired.
    #[serde(rename = "after_ms", serialize_with = "millis", skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
    /// From the beginning of the fault until a restart was decided.
    #[serde(rename = "restart_after_ms", serialize_with = "millis", skip_serializing_if = "Option::is_none")]
    pub restart_after: Option<Duration>,
    /// The first reason, or why it never fires.
    pub text: String,
}

fn millis<S: serde::Serializer>(duration: &Option<Duration>, out: S) -> Result<S::Ok, S::Error> {
    let millis = duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    millis.serialize(out)
}

/// Every detector of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrillReport {
    /// By service, then monitors, then what concerns all.
    pub drills: Vec<Drill>,
    /// How many inputs the engine took.
    pub steps: u64,
}

impl DrillReport {
    /// What can never fire, and what fires for nothing: the plan is wrong there.
    pub fn wrong(&self) -> impl Iterator<Item = &Drill> {
        self.drills.iter().filter(|drill| matches!(drill.state, DrillState::Never | DrillState::FalseAlarm))
    }
}
