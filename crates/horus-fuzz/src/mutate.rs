//! Real examples, edited. Random bytes rarely get past the first check of a parser; a real example with one thing wrong
//! gets everywhere.

use serde_json::Value;

use crate::source::Source;

/// Most edits of one example.
const EDITS_MAX: usize = 6;
/// Longest text that edits lead to, in bytes.
const BYTES_MAX: usize = 16 << 10;

/// One of `seeds` with some edits by lines, words and bytes. `words` are pieces that the format knows.
pub fn text(source: &mut Source<'_>, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut text = source.pick(seeds).clone();
    for _ in 0..=source.below(EDITS_MAX) {
        let at = source.below(text.len() + 1);
        match source.byte() % 8 {
            0 => text.truncate(at),
            1 => {
                let end = (at + source.below(40)).min(text.len());
                text.drain(at..end);
            }
            2 => insert(&mut text, at, source.pick(words).as_bytes()),
            3 => {
                let length = source.below(8);
                insert(&mut text, at, source.take(length));
            }
            4 => edit_lines(source, &mut text),
            5 => {
                let other = source.pick(seeds);
                let from = source.below(other.len() + 1);
                let end = (from + source.below(200)).min(other.len());
                insert(&mut text, at, &other[from..end]);
            }
            6 => {
                if let Some(byte) = text.get_mut(at) {
                    *byte ^= 1 << (source.byte() % 8);
                }
            }
            _ => replace_word(source, &mut text, at, words),
        }
        text.truncate(BYTES_MAX);
    }
    text
}

fn insert(text: &mut Vec<u8>, at: usize, piece: &[u8]) {
    text.splice(at..at, piece.iter().copied());
}

/// Doubles a line, drops it or moves it elsewhere.
fn edit_lines(source: &mut Source<'_>, text: &mut Vec<u8>) {
    let mut lines: Vec<Vec<u8>> = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if lines.is_empty() {
        return;
    }
    let from = source.below(lines.len());
    let line = if source.once_in(3) { lines[from].clone() } else { lines.remove(from) };
    if !source.once_in(3) {
        let to = source.below(lines.len() + 1);
        lines.insert(to, line);
    }
    *text = lines.concat();
}

/// Puts another word at the place of the one at `at`.
fn replace_word(source: &mut Source<'_>, text: &mut Vec<u8>, at: usize, words: &[&str]) {
    let of_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b'-';
    let start = text[..at].iter().rposition(|byte| !of_word(byte)).map_or(0, |before| before + 1);
    let end = text[at..].iter().position(|byte| !of_word(byte)).map_or(text.len(), |length| at + length);
    text.splice(start..end, source.pick(words).bytes());
}

/// A JSON text with some of its values replaced, doubled or taken out. What is no JSON stays as it is.
pub fn json(source: &mut Source<'_>, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let seed = source.pick(seeds);
    let Ok(mut value) = serde_json::from_slice::<Value>(seed) else { return seed.clone() };
    for _ in 0..=source.below(EDITS_MAX) {
        edit_value(source, &mut value, words);
    }
    value.to_string().into_bytes()
}

fn edit_value(source: &mut Source<'_>, value: &mut Value, words: &[&str]) {
    match value {
        Value::Object(map) if !map.is_empty() && !source.once_in(6) => {
            let key = map.keys().nth(source.below(map.len())).cloned().unwrap_or_default();
            match source.byte() % 6 {
                0 => drop(map.remove(&key)),
                1 => {
                    let taken = map.remove(&key).unwrap_or_default();
                    map.insert((*source.pick(words)).to_owned(), taken);
                }
                2 => {
                    for _ in 0..source.below(200) {
                        let name = format!("{}{}", source.pick(words), map.len());
                        map.insert(name, Value::from(source.byte()));
                    }
                }
                _ => map.get_mut(&key).into_iter().for_each(|inner| edit_value(source, inner, words)),
            }
        }
        Value::Array(items) if !items.is_empty() && !source.once_in(6) => {
            let at = source.below(items.len());
            match source.byte() % 4 {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => edit_value(source, &mut items[at], words),
            }
        }
        other => *other = any_value(source, words, 0),
    }
}

fn any_value(source: &mut Source<'_>, words: &[&str], depth: usize) -> Value {
    match source.byte() % 10 {
        0 => Value::Null,
        1 => Value::Bool(source.byte() % 2 == 1),
        2 | 3 => Value::from(source.number()),
        4 => Value::from(-i64::from(source.byte())),
        5 => Value::from(source.float()),
        6 => Value::from(*source.pick(words)),
        7 => Value::from(String::from_utf8_lossy(source.take(16))),
        8 if depth < 4 => (0..source.below(4)).map(|_| any_value(source, words, depth + 1)).collect(),
        _ if depth < 4 => {
            let fields = (0..source.below(4))
                .map(|_| ((*source.pick(words)).to_owned(), any_value(source, words, depth + 1)));
            Value::Object(fields.collect())
        }
        _ => Value::from(0),
    }
}
