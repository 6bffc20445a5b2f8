//! Command lines as they may be shown. Programs take secrets as arguments although they should not; what looks like
//! one becomes `***` before anybody stores or prints it. It errs on the side of hiding.

const HIDDEN: &str = "***";
const TELLTALES: [&str; 11] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "api-key",
    "api_key",
    "credential",
    "webhook",
    "auth",
];
/// Shortest word that is suspected for its look alone: mixed letters and digits, no path, no plain word.
const LONG_SECRET: usize = 32;

/// Hides what looks like a secret: `--token x`, `--token=x`, `DB_PASSWORD=x`, `https://user:pass@host`, webhook URLs,
/// and long random words.
pub fn command_line<S: AsRef<str>>(arguments: &[S]) -> Vec<String> {
    let mut hide_next = false;
    arguments
        .iter()
        .enumerate()
        .map(|(position, argument)| {
            let argument = argument.as_ref();
            if std::mem::take(&mut hide_next) && !argument.starts_with('-') {
                return HIDDEN.to_owned();
            }
            if let Some((name, _)) = argument.split_once('=')
                && is_telltale(name)
            {
                return format!("{name}={HIDDEN}");
            }
            hide_next = argument.starts_with('-') && !argument.contains('=') && is_telltale(argument);
            if position == 0 { argument.to_owned() } else { word(argument) }
        })
        .collect()
}

fn is_telltale(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TELLTALES.iter().any(|telltale| name.contains(telltale))
        || name.split(['-', '_']).any(|part| part == "key")
}

fn word(argument: &str) -> String {
    if let Some((scheme, rest)) = argument.split_once("://") {
        return url(scheme, rest);
    }
    if let Some((name, value)) = argument.split_once('=') {
        return format!("{name}={}", word(value));
    }
    if looks_random(argument) { HIDDEN.to_owned() } else { argument.to_owned() }
}

fn url(scheme: &str, rest: &str) -> String {
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority
        .rsplit_once('@')
        .map_or_else(|| authority.to_owned(), |(_, host)| format!("{HIDDEN}@{host}"));
    let suspicious =
        path.contains('?') || is_telltale(path) || is_telltale(&host) || path.split('/').any(looks_random);
    if suspicious { format!("{scheme}://{host}/{HIDDEN}") } else { format!("{scheme}://{host}{path}") }
}

fn looks_random(text: &str) -> bool {
    text.len() >= LONG_SECRET
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+' | b'=' | b'.'))
        && text.bytes().any(|byte| byte.is_ascii_digit())
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_the_rest_is_not() {
        let shown = |text: &str| command_line(&text.split(' ').collect::<Vec<_>>()).join(" ");
        for (given, expected) in [
            ("bot --token abc --port 80", "bot --token *** --port 80"),
            ("bot --api-key=abc -v", "bot --api-key=*** -v"),
            ("env DB_PASSWORD=x bot", "env DB_PASSWORD=*** bot"),
            ("curl https://u:p@host/path", "curl https://***@host/path"),
            ("curl https://discord.com/api/webhooks/1/abc", "curl https://discord.com/***"),
            ("bot --data=/srv/data run", "bot --data=/srv/data run"),
            ("bot 0123456789abcdef0123456789abcdef", "bot ***"),
            ("bot --password --verbose x", "bot --password --verbose x"),
        ] {
            assert_eq!(shown(given), expected);
        }
    }
}
