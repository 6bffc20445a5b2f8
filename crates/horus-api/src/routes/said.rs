//! What people say with a request: one line, for whoever reads it tomorrow.

use crate::problem::Problem;

/// Longest text of a reason, in bytes.
const LINE_BYTES_MAX: usize = 1_000;

/// What a person says in the field `name`: one line, neither empty nor too long.
pub(super) fn checked_line(name: &str, text: &str, missing: &str) -> Result<String, Problem> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Problem::bad_request(format!("`{name}` is missing: {missing}")));
    }
    if text.len() > LINE_BYTES_MAX {
        let detail = format!("`{name}` is {} bytes long, more than {LINE_BYTES_MAX}", text.len());
        return Err(Problem::bad_request(detail));
    }
    if text.chars().any(char::is_control) {
        let detail = format!("`{name}` holds a control character: it has to be one line of text");
        return Err(Problem::bad_request(detail));
    }
    Ok(text.to_owned())
}
