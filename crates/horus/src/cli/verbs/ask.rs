//! `start`, `stop`, `restart`, `hold`, `resume`: asked together, shown while they happen, told when they are so.

use std::time::Duration;

use horus_api::{AskStep, Client, ClientError, Progress};
use horus_core::command::Answer;
use horus_core::observation::OperatorRequest;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::output::Output;
use crate::cli::render::live::{Step, redraw, render_live, render_plain};
use crate::cli::render::style::Paint;
use crate::cli::render::text::clean;

/// How often the line of a running request is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Steps on their way from the connections to the screen.
const STEPS_MAX: usize = 64;

/// One request, while it runs.
struct Running {
    doing: &'static str,
    name: String,
    progress: Progress,
    since: Instant,
    over: bool,
}

impl Running {
    fn new(request: &OperatorRequest) -> Self {
        let doing = match request {
            OperatorRequest::Start(_) => "starting",
            OperatorRequest::Stop(_) => "stopping",
            OperatorRequest::Restart(_) => "restarting",
            OperatorRequest::Hold { .. } => "holding",
            OperatorRequest::Resume { .. } => "resuming",
        };
        let progress = Progress { text: String::new(), limit_ms: None };
        let name = request.service().to_string();
        Self { doing, name, progress, since: Instant::now(), over: false }
    }

    fn step(&self) -> Step {
        Step {
            doing: self.doing,
            name: self.name.clone(),
            text: self.progress.text.clone(),
            elapsed_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            limit_ms: self.progress.limit_ms,
        }
    }
}

enum News {
    Progress(Progress),
    Over(Result<Answer, ClientError>),
}

/// Asks for all of it at once. The exit status is that of the first that failed.
pub(super) async fn ask(
    client: &Client,
    requests: Vec<OperatorRequest>,
    output: &Output,
) -> Result<ExitStatus, Fault> {
    let mut screen = Screen { output, running: requests.iter().map(Running::new).collect(), drawn: 0 };
    let (sender, mut news) = mpsc::channel(STEPS_MAX);
    let mut conversations = JoinSet::new();
    for (number, request) in requests.into_iter().enumerate() {
        let (client, sender) = (client.clone(), sender.clone());
        conversations.spawn(async move {
            let outcome = converse(&client, &request, number, &sender).await;
            // The receiver lives as long as any of us.
            let _ = sender.send((number, News::Over(outcome))).await;
        });
    }
    drop(sender);
    // What is done at once is not drawn at all.
    let mut ticks = interval_at(Instant::now() + DRAW_EVERY, DRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut status = ExitStatus::Done;
    loop {
        let (number, what) = tokio::select! {
            told = news.recv() => match told {
                Some(told) => told,
                None => return Ok(status),
            },
            _ = ticks.tick(), if output.live => {
                screen.draw()?;
                continue;
            }
        };
        match what {
            News::Progress(progress) => screen.progress(number, progress)?,
            // Without a daemon every one of them fails for the same reason: it is said once.
            News::Over(Err(error @ (ClientError::NoDaemon { .. } | ClientError::NotPermitted { .. }))) => {
                screen.wipe()?;
                return Err(error.into());
            }
            News::Over(outcome) => {
                let ended = screen.over(number, outcome)?;
                status = if status == ExitStatus::Done { ended } else { status };
            }
        }
    }
}

async fn converse(
    client: &Client,
    request: &OperatorRequest,
    number: usize,
    news: &mpsc::Sender<(usize, News)>,
) -> Result<Answer, ClientError> {
    let mut steps = client.ask(request).await?;
    loop {
        match steps.next().await? {
            AskStep::Answer(answer) => return Ok(answer),
            AskStep::Progress(progress) => {
                let _ = news.send((number, News::Progress(progress))).await;
            }
        }
    }
}

/// Lines that are drawn over while requests run, and those that stay.
struct Screen<'a> {
    output: &'a Output,
    running: Vec<Running>,
    drawn: usize,
}

impl Screen<'_> {
    fn draw(&mut self) -> Result<(), Fault> {
        let lines: Vec<String> = self
            .running
            .iter()
            .filter(|request| !request.over)
            .map(|request| render_live(&request.step(), self.output.width))
            .collect();
        self.output.note(&redraw(self.drawn, &lines))?;
        self.drawn = lines.len();
        Ok(())
    }

    fn wipe(&mut self) -> Result<(), Fault> {
        if self.drawn > 0 {
            self.output.note(&redraw(self.drawn, &[]))?;
            self.drawn = 0;
        }
        Ok(())
    }

    fn progress(&mut self, number: usize, progress: Progress) -> Result<(), Fault> {
        let Some(request) = self.running.get_mut(number) else { return Ok(()) };
        request.progress = progress;
        request.since = Instant::now();
        if self.output.live {
            return self.draw();
        }
        let line = render_plain(&request.step());
        Ok(self.output.note(&format!("{line}\n"))?)
    }

    fn over(&mut self, number: usize, outcome: Result<Answer, ClientError>) -> Result<ExitStatus, Fault> {
        self.wipe()?;
        let Some(request) = self.running.get_mut(number) else { return Ok(ExitStatus::Bug) };
        request.over = true;
        let name = request.name.clone();
        let fault = match outcome {
            Ok(Answer::Done(text)) => {
                let painted = self.output.style.paint(Paint::Good, &named(&name, &text));
                self.output.data(format!("{painted}\n"))?;
                return Ok(ExitStatus::Done);
            }
            Ok(Answer::Refused { why, hint }) => Fault::new(ExitStatus::Failed, named(&name, &why), hint),
            Ok(Answer::Failed(text)) => {
                Fault::new(ExitStatus::Failed, named(&name, &text), format!("horus status {name}"))
            }
            Err(error) => Fault::from(error),
        };
        crate::cli::tell(fault, self.output)
    }
}

/// The daemon's sentence, with the service's name in it once.
fn named(name: &str, text: &str) -> String {
    let text = clean(text);
    if text.contains(name) { text } else { format!("{name}: {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_said_once() {
        assert_eq!(named("trading", "stopped"), "trading: stopped");
        assert_eq!(named("trading", "trading: stopped"), "trading: stopped");
    }
}
