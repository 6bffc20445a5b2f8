//! What arrived at Discord and at Slack.

use std::time::Duration;

use horus_alert::fake::{Accepted, Fake};

/// A message, as a person sees it.
pub type Said = Accepted;

/// Between two looks at what has arrived.
const PAUSE: Duration = Duration::from_millis(20);

/// A Discord and a Slack of one scenario.
#[derive(Debug)]
pub struct Sinks {
    /// The strict Discord.
    pub discord: Fake,
    /// The strict Slack.
    pub slack: Fake,
}

impl Sinks {
    /// Both, on ports of their own.
    pub async fn start() -> Self {
        Self { discord: Fake::start().await.unwrap(), slack: Fake::start().await.unwrap() }
    }

    /// Waits for the message at Discord whose first line holds `text`; the same first line has to come to Slack.
    pub async fn say(&self, text: &str) -> Option<Said> {
        let discord = said(&self.discord, text).await?;
        said(&self.slack, text).await?;
        Some(discord)
    }

    /// Waits for a message at Discord that holds all of `parts`, anywhere.
    pub async fn mention(&self, parts: &[&str]) -> Option<Said> {
        find(&self.discord, |said| parts.iter().all(|part| plain(&said.full_text()).contains(part))).await
    }

    /// First lines at Discord so far.
    pub fn first_lines(&self) -> Vec<String> {
        self.discord.accepted().iter().map(|said| said.first_line().to_owned()).collect()
    }

    /// Everything that was ever sent to either, headers included.
    pub fn everything(&self) -> String {
        let all = [self.discord.accepted(), self.slack.accepted()].concat();
        all.iter().map(|said| format!("{}\n{:?}\n", said.body, said.headers)).collect()
    }

    /// Nothing that was sent broke a documented rule.
    pub fn assert_no_rule_was_broken(&self) {
        assert_eq!(self.discord.rejected(), [], "Discord");
        assert_eq!(self.slack.rejected(), [], "Slack");
    }
}

/// Waits for a message whose first line holds `text`; the loud line beside it is none.
pub(crate) async fn said(fake: &Fake, text: &str) -> Option<Said> {
    find(fake, |said| !said.is_line() && plain(said.first_line()).contains(text)).await
}

/// Waits for a message.
async fn find(fake: &Fake, fits: impl Fn(&Said) -> bool) -> Option<Said> {
    let looking = async {
        loop {
            let found = fake.accepted().into_iter().find(&fits);
            if let Some(found) = found {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(crate::FAILSAFE, looking).await.ok()
}

/// Without the escapes of a sink's markup.
fn plain(text: &str) -> String {
    text.replace(['\\', '\u{200B}'], "")
}
