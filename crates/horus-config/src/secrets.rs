//! Secrets: where they stand in the file (so that no fault shows them), and how the ones that stand elsewhere are
//! fetched.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use horus_core::ids::SinkName;
use horus_core::plan::{Secret, SecretSource, SinkKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use url::Url;

use crate::Checked;
use crate::at::Span;
use crate::environment::{Environment, FileFacts};
use crate::fault::{Code, Fault, Findings};

/// Longest secret URL, in bytes.
const SECRET_BYTES_MAX: u64 = 4096;
/// Permission bits that let anybody but the owner read, write or run.
const OTHERS: u32 = 0o077;

/// Hides the values of `env` tables and literal URLs of sinks.
pub(crate) fn hide(tree: &Spanned<DeTable<'_>>, findings: &mut Findings) {
    for (table, value) in tree.get_ref() {
        let DeValue::Table(entries) = value.get_ref() else {
            continue;
        };
        match table.get_ref().as_ref() {
            "defaults" => entries.get("env").into_iter().for_each(|env| hide_texts(env, findings)),
            "service" => each_table(entries, |service| {
                service.get("env").into_iter().for_each(|env| hide_texts(env, findings));
            }),
            "sink" => each_table(entries, |sink| {
                for target in ["discord", "slack", "webhook"].iter().filter_map(|kind| sink.get(*kind)) {
                    hide_target(target, findings);
                }
            }),
            "daemon" => entries.get("ping").into_iter().for_each(|target| hide_target(target, findings)),
            _ => {}
        }
    }
}

/// A literal URL, in a table or instead of one.
fn hide_target(target: &Spanned<DeValue<'_>>, findings: &mut Findings) {
    match target.get_ref() {
        DeValue::Table(inner) => inner.get("url").into_iter().for_each(|url| hide_texts(url, findings)),
        _ => hide_texts(target, findings),
    }
}

fn each_table(entries: &DeTable<'_>, mut visit: impl FnMut(&DeTable<'_>)) {
    for (_, value) in entries {
        if let DeValue::Table(inner) = value.get_ref() {
            visit(inner);
        }
    }
}

/// Hides every text, number and date in `value`.
pub(crate) fn hide_texts(value: &Spanned<DeValue<'_>>, findings: &mut Findings) {
    match value.get_ref() {
        DeValue::Table(inner) => inner.iter().for_each(|(_, value)| hide_texts(value, findings)),
        DeValue::Array(items) => items.iter().for_each(|item| hide_texts(item, findings)),
        DeValue::Boolean(_) => {}
        _ => findings.hide(value.span()),
    }
}

/// The coarse way, for a text that is no TOML and so has no tree to trust: whatever follows the `=` of a line that
/// speaks of an environment or stands in a table of one, up to where a new table begins; and every web address.
pub(crate) fn hide_by_line(text: &str, findings: &mut Findings) {
    let mut offset = 0;
    let mut in_environment = false;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if trimmed.starts_with('[') {
            in_environment = trimmed.contains("env");
        } else if trimmed.starts_with("env") && !trimmed.starts_with("env_file") {
            // Perhaps an inline table of several lines whose end cannot be trusted.
            in_environment = true;
        }
        if let (true, Some(equals)) = (in_environment && !trimmed.starts_with('['), line.find('=')) {
            findings.hide(offset + equals + 1..offset + line.len());
        }
        if let Some(start) = line.find("://") {
            findings.hide(offset + start + 3..offset + line.len());
        }
        offset += line.len();
    }
}

/// The fault of a secret that stands in the file.
pub(crate) fn report_literal(span: &Span, key: &str, findings: &mut Findings) {
    findings
        .report(
            Code::SecretInFile,
            span,
            "a webhook URL is a secret: put it into an environment variable or a 0600 file",
        )
        .label("whoever has this text can post in your name")
        .help(format!(
            "write `{key} = {{ url_env = \"HORUS_{}_URL\" }}`, or `{key} = {{ url_file = \"{key}.url\" }}` and `chmod 600 {key}.url`; \
             if the file was shared, make a new webhook",
            key.to_ascii_uppercase()
        ));
}

/// Is the file one whose content only we (or root) can know? `Err`: what is wrong, and what helps.
pub(crate) fn check_owner(path: &Path, facts: FileFacts, us: u32) -> Result<(), (String, String)> {
    let path = path.display();
    if facts.directory {
        return Err((format!("`{path}` is a folder"), "name the file that holds the URL".into()));
    }
    if facts.owner != us && facts.owner != 0 {
        return Err((
            format!("`{path}` belongs to user {}, who may read and change it", facts.owner),
            format!("chown {us} {path}; chmod 600 {path}"),
        ));
    }
    if facts.mode & OTHERS != 0 {
        return Err((
            format!("`{path}` may be read by others (mode {:03o})", facts.mode & 0o777),
            format!("chmod 600 {path}"),
        ));
    }
    Ok(())
}

/// Fetches the secret URL of every sink.
///
/// # Errors
/// One fault for each secret that is missing or no URL. Whoever runs has to treat them as faults; whoever only checks a
/// file, perhaps on another machine, shows them as warnings ([`Fault::into_warning`]).
pub fn resolve_secrets(
    checked: &Checked,
    environment: &dyn Environment,
) -> Result<BTreeMap<SinkName, Secret>, Vec<Fault>> {
    let mut secrets = BTreeMap::new();
    let mut findings = checked.findings();
    for (name, sink) in &checked.plan.sinks {
        match fetch(&sink.secret, sink.kind, environment) {
            Ok(secret) => {
                secrets.insert(name.clone(), secret);
            }
            Err(problem) => {
                let span = checked.secret_place(name);
                findings.report(problem.code, &span, problem.message).label(problem.label).help(problem.help);
            }
        }
    }
    let faults = findings.finish();
    if faults.is_empty() { Ok(secrets) } else { Err(faults) }
}

/// Fetches the secret URL of the dead-man ping; `None` if there is no such ping.
///
/// # Errors
/// As for [`resolve_secrets`].
pub fn resolve_ping(checked: &Checked, environment: &dyn Environment) -> Result<Option<Secret>, Vec<Fault>> {
    let Some(ping) = &checked.plan.daemon.ping else { return Ok(None) };
    // The other side is a stranger's server as that of a webhook is.
    fetch(&ping.secret, SinkKind::Webhook, environment).map(Some).map_err(|problem| {
        let mut findings = checked.findings();
        let Problem { code, message, label, help } = problem;
        findings.report(code, &checked.ping_place, message).label(label).help(help);
        findings.finish()
    })
}

struct Problem {
    code: Code,
    message: String,
    label: &'static str,
    help: String,
}

fn fetch(source: &SecretSource, kind: SinkKind, environment: &dyn Environment) -> Result<Secret, Problem> {
    let text = match source {
        SecretSource::Env(name) => {
            environment.variable(name).filter(|value| !value.is_empty()).ok_or_else(|| Problem {
                code: Code::SecretMissing,
                message: format!("the environment variable `{name}` is not set"),
                label: "nothing can be sent there",
                help: format!("start Horus with `{name}` set, or name a file by `url_file`"),
            })?
        }
        SecretSource::File(path) => secret_file(path, environment)?,
    };
    check_secret_url(kind, text.trim())
}

fn secret_file(path: &Path, environment: &dyn Environment) -> Result<String, Problem> {
    let shown = path.display();
    let missing = |error: io::Error| Problem {
        code: Code::SecretMissing,
        message: format!("`{shown}` cannot be read: {error}"),
        label: "nothing can be sent there",
        help: format!("put the URL into {shown}; chmod 600 {shown}"),
    };
    let facts = environment.look(path).map_err(missing)?;
    check_owner(path, facts, environment.user_id()).map_err(|(message, help)| Problem {
        code: Code::SecretFileOpen,
        message,
        label: "this secret is none",
        help,
    })?;
    let bytes = environment.read(path, SECRET_BYTES_MAX + 1).map_err(missing)?;
    let bad = |message: String| Problem {
        code: Code::BadSecret,
        message,
        label: "nothing can be sent there",
        help: "the file holds one line: the URL".into(),
    };
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(bad(format!("`{shown}` is longer than {SECRET_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| bad(format!("`{shown}` is no text")))
}

/// Never says what the text is.
fn check_secret_url(kind: SinkKind, text: &str) -> Result<Secret, Problem> {
    let bad = |message: &str| Problem {
        code: Code::BadSecret,
        message: message.to_owned(),
        label: "nothing can be sent there",
        help: "copy the webhook URL again; it starts with https://".into(),
    };
    let url = Url::parse(text).map_err(|_| bad("the secret is not a URL"))?;
    let local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(bad("the secret is a URL without a host")),
    };
    match (url.scheme(), kind) {
        ("https", _) | ("http", SinkKind::Webhook) => Ok(Secret::new(text.to_owned())),
        ("http", _) if local => Ok(Secret::new(text.to_owned())),
        ("http", _) => Err(bad("the secret is an http:// URL: it would cross the net in the clear")),
        _ => Err(bad("the secret is not an https:// URL")),
    }
}
