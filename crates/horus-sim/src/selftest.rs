//! The selftest: a rule that never fired is unproven.
//!
//! A fire drill for the judge. [`prove`] puts the engine into one small, bad situation after the other, in simulated time
//! and with programs that do not exist, and writes down which rules, verdicts, incidents and stories it gave out. Nothing is
//! marked as fired by hand: what did not stand in a command of the engine has not fired. [`drill`] does the same with
//! somebody's own plan: every detector that the plan declares, by that plan's own numbers, and which of them can never fire.
//!
//! Both are pure: no clock, no process, no network, no secret. A daemon may call them as often as it likes; `prove` takes
//! well under a second in a release build.

mod drills;
mod faults;
mod report;
mod sandbox;
mod situations;
mod traces;

pub use drills::drill;
pub use report::{Drill, DrillReport, DrillState, Fired, Proof};
pub use traces::{KINDS, STORIES};

use horus_core::reason::Rule;
use horus_core::verdict::Verdict;

use situations::{SITUATIONS, Situation};
use traces::{NOT_THE_JUDGES, Traces};

/// Fires every rule, verdict, incident and story of the judge, and says which never fired.
pub fn prove() -> Proof {
    prove_by(SITUATIONS)
}

fn prove_by(situations: &[Situation]) -> Proof {
    let mut proof = Proof::of_nothing(
        Rule::ALL.iter().map(|rule| rule.word()),
        Verdict::ALL.iter().map(|verdict| verdict.word()),
        KINDS.iter().copied(),
        STORIES.iter().copied().filter(|story| *story != NOT_THE_JUDGES),
    );
    for (name, situation) in situations {
        if let Some(sandbox) = situation() {
            proof.situations += 1;
            proof.steps += sandbox.steps;
            credit(&mut proof, name, &sandbox.traces);
        }
    }
    proof
}

fn credit(proof: &mut Proof, situation: &'static str, traces: &Traces) {
    for (rule, text) in &traces.rules {
        Fired::credit(&mut proof.rules, rule.word(), situation, text);
    }
    for (verdict, text) in &traces.verdicts {
        Fired::credit(&mut proof.verdicts, verdict.word(), situation, text);
    }
    for (kind, text) in &traces.kinds {
        Fired::credit(&mut proof.incidents, kind, situation, text);
    }
    for (story, text) in &traces.stories {
        Fired::credit(&mut proof.stories, story, situation, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_situation_is_played() {
        assert_eq!(
            usize::try_from(prove().situations),
            Ok(SITUATIONS.len()),
            "a name or a calendar is wrong"
        );
    }

    /// Without the situation in which it falls, a word is named as unproven: nothing is marked by hand.
    #[test]
    fn what_did_not_happen_has_not_fired() {
        assert_eq!(
            prove_by(&[]).unproven().len(),
            Rule::ALL.len() + Verdict::ALL.len() + KINDS.len() + STORIES.len() - 1
        );
        let without_lies: Vec<_> =
            SITUATIONS.iter().filter(|(name, _)| !name.contains("tick stands still")).copied().collect();
        assert_eq!(without_lies.len() + 1, SITUATIONS.len());
        assert_eq!(prove_by(&without_lies).unproven(), [("rule", "lying"), ("verdict", "lying")]);
    }

    #[test]
    fn the_vocabulary_is_the_cores() {
        use horus_core::notice::{IncidentKind, Story};
        for word in KINDS {
            let kind: IncidentKind = serde_json::from_value((*word).into()).unwrap();
            assert_eq!(kind.word(), *word);
        }
        for word in STORIES {
            // Either a story without numbers, or one that is missing some: the name is known in both cases.
            let story = serde_json::from_value::<Story>((*word).into());
            let error = story.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(!error.contains("unknown variant"), "{word}: {error}");
        }
    }
}
