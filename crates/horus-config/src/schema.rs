//! The format, described by itself: a JSON Schema for editors, and the reference for people. Both are made from the
//! types in `raw` and their documentation, so neither can say anything that the reader does not do.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::raw::RawFile;

/// Sub-tables that stand in the reference before others; the rest follows by name.
const ORDER: [&str; 6] = ["daemon", "service", "defaults", "monitor", "maintenance", "sink"];

/// The JSON Schema (draft 2020-12) of `watchdog.toml`, as it is committed.
pub fn schema() -> String {
    let mut text = serde_json::to_string_pretty(&schema_value()).unwrap_or_default();
    text.push('\n');
    text
}

fn schema_value() -> Value {
    let mut value = schemars::schema_for!(RawFile).to_value();
    without_null(&mut value);
    required_keys(&mut value);
    plain_names(&mut value);
    value
}

/// TOML has no null: what is optional is simply left out.
fn without_null(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(object) => {
            object.values_mut().for_each(without_null);
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|word| word != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(words)) = object.get_mut("enum") {
                words.retain(|word| !word.is_null());
            }
            collapse_optional(object);
        }
        _ => {}
    }
}

/// Every field of `raw` is optional to serde, so that a missing one does not hide other faults; the fields that have to
/// be there are marked, and the mark becomes the table's `required`.
fn required_keys(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(required_keys),
        Value::Object(object) => {
            object.values_mut().for_each(required_keys);
            let properties = object.get_mut("properties").and_then(Value::as_object_mut);
            let marked = |(key, schema): (&String, &mut Value)| {
                schema.as_object_mut()?.remove("x-required").map(|_| Value::from(key.clone()))
            };
            let required: Vec<Value> = properties.into_iter().flatten().filter_map(marked).collect();
            if !required.is_empty() {
                object.insert("required".to_owned(), required.into());
            }
        }
        _ => {}
    }
}

/// `{"anyOf": [X, {"type": "null"}], ...}` becomes `{X, ...}`.
fn collapse_optional(object: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else {
        return;
    };
    choices.retain(|choice| choice.get("type").is_none_or(|word| word != "null"));
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        object.remove("anyOf");
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}

/// `RawService` is a word of the code, not of the format.
fn plain_names(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(plain_names),
        Value::Object(object) => {
            object.values_mut().for_each(plain_names);
            if let Some(Value::String(target)) = object.get_mut("$ref") {
                *target = target.replace("/Raw", "/");
            }
            if let Some(Value::Object(definitions)) = object.get_mut("$defs") {
                let renamed = std::mem::take(definitions)
                    .into_iter()
                    .map(|(name, schema)| (name.strip_prefix("Raw").unwrap_or(&name).to_owned(), schema));
                *definitions = renamed.collect();
            }
        }
        _ => {}
    }
}

/// `docs/reference/config.md`, as it is committed.
pub fn reference() -> String {
    let schema = schema_value();
    let mut page = Page { schema: &schema, places: BTreeMap::new(), order: Vec::new() };
    page.collect(&schema, "");
    let mut text = include_str!("reference_head.md").to_owned();
    for (name, definition) in &page.order {
        page.section(&mut text, name, definition);
    }
    text
}

/// A table of the format: its name in the schema and itself.
type Definition<'a> = (String, &'a Value);

struct Page<'a> {
    schema: &'a Value,
    /// Where each table may stand.
    places: BTreeMap<String, Vec<String>>,
    order: Vec<Definition<'a>>,
}

/// What a key takes.
enum Takes<'a> {
    Leaf,
    Table(String, &'a Value),
    Named(String, &'a Value),
}

impl<'a> Page<'a> {
    fn target(&self, schema: &'a Value) -> Option<(String, &'a Value)> {
        let path = schema.get("$ref")?.as_str()?.strip_prefix("#")?;
        let name = path.rsplit('/').next()?.to_owned();
        Some((name, self.schema.pointer(path)?))
    }

    fn takes(&self, schema: &'a Value) -> Takes<'a> {
        if let Some((name, table)) = self.target(schema) {
            return Takes::Table(name, table);
        }
        match schema.get("additionalProperties").and_then(|inner| self.target(inner)) {
            Some((name, table)) => Takes::Named(name, table),
            None => Takes::Leaf,
        }
    }

    /// Notes where each table may stand, depth first.
    fn collect(&mut self, table: &'a Value, at: &str) {
        let mut keys: Vec<(&String, &Value)> =
            table.get("properties").and_then(Value::as_object).into_iter().flatten().collect();
        let rank = |key: &str| ORDER.iter().position(|word| *word == key).unwrap_or(ORDER.len());
        keys.sort_by_key(|(key, _)| rank(key));
        for (key, schema) in keys {
            let place = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            let (name, inner, place) = match self.takes(schema) {
                Takes::Leaf => continue,
                Takes::Table(name, inner) => (name, inner, place),
                Takes::Named(name, inner) => (name, inner, format!("{place}.NAME")),
            };
            if !self.places.contains_key(&name) {
                self.order.push((name.clone(), inner));
            }
            self.places.entry(name).or_default().push(place.clone());
            self.collect(inner, &place);
        }
    }

    fn section(&self, text: &mut String, name: &str, table: &Value) {
        let places = self.places.get(name).map(Vec::as_slice).unwrap_or_default();
        let title: Vec<String> = places.iter().map(|place| format!("`{place}`")).collect();
        let description = one_line(table.get("description"));
        // Writing into a String cannot fail.
        let _ = write!(text, "\n## {}\n\n{description}\n\n", title.join(", "));
        text.push_str("| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
        let required: Vec<&str> = table
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (key, schema) in table.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let (kind, suffix) = match self.takes(schema) {
                Takes::Leaf => (kind(schema), ""),
                Takes::Table(..) => ("table".to_owned(), ""),
                Takes::Named(..) => ("tables".to_owned(), ".NAME"),
            };
            let default = match schema.get("default") {
                Some(value) => format!("`{}`", value.to_string().replace(',', ", ")),
                None if required.contains(&key.as_str()) => "**required**".to_owned(),
                None => String::new(),
            };
            let meaning = one_line(schema.get("description"));
            let _ = writeln!(text, "| `{key}{suffix}` | {kind} | {default} | {meaning} |");
        }
    }
}

fn one_line(text: Option<&Value>) -> String {
    let text = text.and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn kind(schema: &Value) -> String {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ");
    }
    if let Some(format) = schema.get("format").and_then(Value::as_str)
        && !format.starts_with("uint")
        && format != "double"
    {
        return format.replace(" text", "");
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => "text",
        Some("integer" | "number") => "number",
        Some("boolean") => "`true` `false`",
        Some("array") => "list of texts",
        Some("object") => "table of texts",
        _ => "",
    }
    .to_owned()
}
