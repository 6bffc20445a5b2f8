//! Code that Horus puts into a program that knows nothing of it, by a variable that its runtime reads at the start.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// For which runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Agent {
    /// CPython 3.9 and later, on asyncio or uvloop.
    Python,
    /// Node 18 and later.
    Node,
}

impl Agent {
    /// The word used in config and reasons.
    pub fn word(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Node => "node",
        }
    }

    /// The variable that brings it into a program.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Python => "PYTHONPATH",
            Self::Node => "NODE_OPTIONS",
        }
    }

    /// Why nothing may ever be heard of it, for people.
    pub fn may_be_mute(self) -> &'static str {
        match self {
            Self::Python => {
                "the agent beats from an event loop of the first Python of the service, 3.9 or later; `-I`, `-E` and `-S` keep it out"
            }
            Self::Node => {
                "the agent beats from the event loop of the first Node of the service, 18 or later; `--permission` keeps it out"
            }
        }
    }

    /// The word of a command line with which it is not loaded, or would keep the program from starting.
    pub fn kept_out_by(self, command: &[String]) -> Option<String> {
        let (program, words) = command.split_first()?;
        let name = Path::new(program).file_name()?.to_str()?;
        match self {
            Self::Python if name.starts_with("python") => deaf_python(words),
            Self::Node if name.starts_with("node") => {
                let options = words.iter().take_while(|word| word.starts_with('-'));
                self.refused_by(&options.cloned().collect::<Vec<_>>())
            }
            _ => None,
        }
    }

    /// Of these words in its variable, the one with which the program would not start.
    pub fn refused_by(self, words: &[String]) -> Option<String> {
        let forbids = |word: &&String| {
            word.starts_with("--permission") || word.starts_with("--experimental-permission")
        };
        match self {
            Self::Python => None,
            Self::Node => words.iter().find(forbids).cloned(),
        }
    }
}

/// The option by which Python ignores its variables or `sitecustomize`.
fn deaf_python(words: &[String]) -> Option<String> {
    let mut words = words.iter();
    while let Some(letters) = words.next().and_then(|word| word.strip_prefix('-')) {
        if letters.starts_with('-') || letters.is_empty() {
            continue;
        }
        for (at, letter) in letters.char_indices() {
            match letter {
                'I' | 'E' | 'S' => return Some(format!("-{letter}")),
                // What follows belongs to the program.
                'c' | 'm' => return None,
                // With a word of their own, here or next.
                'W' | 'X' => {
                    if at + 1 == letters.len() {
                        words.next();
                    }
                    break;
                }
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_out(agent: Agent, line: &str) -> Option<String> {
        agent.kept_out_by(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn only_options_of_python_itself_count() {
        for line in [
            "python3 -I bot.py",
            "/usr/bin/python3.11 -uE bot.py",
            "python -W ignore -X dev -S bot.py",
            "python3 -Im bot",
        ] {
            assert!(kept_out(Agent::Python, line).is_some(), "{line}");
        }
        for line in [
            "python3 bot.py -I",
            "python3 -m bot -I",
            "python3 -c print(1) -E",
            "python3 -WI bot.py",
            "python3 -X IES bot.py",
            "bash -E bot.sh",
            "python3",
            "",
        ] {
            assert_eq!(kept_out(Agent::Python, line), None, "{line}");
        }
    }

    #[test]
    fn only_options_of_node_itself_count() {
        for line in
            ["node --permission bot.js", "/usr/bin/node --no-warnings --experimental-permission bot.js"]
        {
            assert!(kept_out(Agent::Node, line).is_some(), "{line}");
        }
        for line in ["node bot.js --permission", "bash --permission", "node"] {
            assert_eq!(kept_out(Agent::Node, line), None, "{line}");
        }
    }
}
