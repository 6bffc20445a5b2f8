//! Surprises that owe a rule, and the note that pays for one.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use horus_core::ids::IncidentId;
use serde::Deserialize;

use super::said::checked_line;
use super::{Shared, part, said, within};
use crate::backend::Backend;
use crate::problem::Problem;

pub(super) async fn debts<B: Backend>(State(shared): State<Shared<B>>) -> Result<Response, Problem> {
    Ok(Json(within(shared.limits.backend_patience, shared.backend.debts()).await?).into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleSaid {
    #[serde(default)]
    text: String,
    #[serde(default)]
    drill: bool,
}

pub(super) async fn note_rule<B: Backend>(
    State(shared): State<Shared<B>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let name = part(path)?;
    let id = IncidentId::parse(&name).ok_or_else(|| Problem::no_such_incident(&name))?;
    let RuleSaid { text, drill } = said(request, shared.limits).await?;
    let text = checked_line("text", &text, "say what was done, so that it does not happen again")?;
    Ok(Json(within(shared.limits.work_patience, shared.backend.note_rule(id, text, drill)).await?)
        .into_response())
}
