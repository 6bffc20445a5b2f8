//! `incident ID --report`: gathers what the post-mortem is made of.

use horus_api::{Client, EVENTS_MAX, EventQuery, IncidentReport};
use horus_core::record::Recorded;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::bundle::{self, Bundle};
use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::output::Output;
use crate::cli::render::postmortem::{Captured, Content, Postmortem, render_postmortem};

/// Rows of the journal before the first one of the incident that are looked through for what came just before it.
const ROWS_BEFORE_MAX: u64 = 4_000;

/// So many pages of [`EVENTS_MAX`] rows are read of each subject.
const PAGES_MAX: usize = 16;

/// The name under which Horus itself stands in the journal.
const HORUS: &str = "horus";

pub(super) async fn postmortem(
    client: &Client,
    report: &IncidentReport,
    output: &Output,
) -> Result<ExitStatus, Fault> {
    let mut whole = true;
    let mut around = Vec::new();
    for subject in [report.incident.subject.as_str(), HORUS] {
        let (rows, all) = of_subject(client, report, subject).await?;
        around.extend(rows);
        whole &= all;
    }
    let bundles: Vec<Captured> = bundle::newest(report).iter().map(|path| captured(path)).collect();
    let postmortem = Postmortem {
        report,
        around: &around,
        whole,
        bundles: &bundles,
        now: Timestamp::now(),
        zone: &TimeZone::system(),
    };
    output.data(render_postmortem(&postmortem))?;
    Ok(ExitStatus::Done)
}

/// What the journal has of this subject from a little before the incident until its end; and whether that is all.
async fn of_subject(
    client: &Client,
    report: &IncidentReport,
    subject: &str,
) -> Result<(Vec<Recorded>, bool), Fault> {
    let Some(first) = report.events.first() else { return Ok((Vec::new(), false)) };
    let mut query = EventQuery {
        after: Some(first.seq.saturating_sub(ROWS_BEFORE_MAX)),
        limit: EVENTS_MAX,
        subject: Some(subject.to_owned()),
        incident: None,
    };
    let mut rows: Vec<Recorded> = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = client.events(&query).await?.events;
        let full = page.len() >= EVENTS_MAX;
        rows.extend(page);
        let Some(last) = rows.last() else { return Ok((rows, true)) };
        let over = report.incident.closed_at.is_some_and(|end| last.at > end);
        if over || !full {
            return Ok((rows, true));
        }
        query.after = Some(last.seq);
    }
    Ok((rows, false))
}

fn captured(path: &str) -> Captured {
    let content = bundle::read(path).and_then(|bytes| Bundle::parse(&bytes)).map(|bundle| Content {
        stage: bundle.stage.clone(),
        at: bundle.at,
        changed: bundle.changed.clone(),
        last_lines: bundle.last_lines.clone(),
        seen: bundle.seen(),
    });
    Captured { path: path.to_owned(), content }
}
