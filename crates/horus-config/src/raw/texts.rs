//! Leaves of the file: texts with a meaning. Here they are only told apart by type, so that a type fault can say what
//! was expected and the schema what is allowed; `words` reads them.

use std::borrow::Cow;
use std::fmt;

use horus_core::plan::Secret;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $schema:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) struct $name(pub(crate) String);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Reader;
                impl Visitor<'_> for Reader {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        Ok($name(text.to_owned()))
                    }
                }
                from.deserialize_str(Reader)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

text! {
    /// `"90s"`, `"1m 30s"`
    DurationText, "a duration such as \"90s\" or \"1m 30s\"",
    json_schema!({ "type": "string", "format": "duration text", "pattern": r"^\s*[0-9]" })
}
text! {
    /// `"6h"` or `"never"`
    RetryText, "a duration such as \"6h\", or \"never\"",
    json_schema!({ "type": "string", "format": "duration text or \"never\"", "pattern": r"^\s*([0-9]|never$)" })
}
text! {
    /// `"64MiB"`
    SizeText, "a size such as \"64MiB\"",
    json_schema!({ "type": "string", "format": "size text", "pattern": r"^\s*[0-9]+\s*([KMGT]?i?B?)\s*$" })
}
text! {
    /// `"150%"`
    PercentText, "a share such as \"150%\"",
    json_schema!({ "type": "string", "format": "per cent", "pattern": r"^\s*[0-9]+\s*%\s*$" })
}
text! {
    /// `"0 6 * * *"`
    CronText, "a cron pattern such as \"0 6 * * *\"",
    json_schema!({ "type": "string", "format": "cron pattern", "minLength": 1 })
}
text! {
    /// `"Europe/Berlin"`
    ZoneText, "the name of a time zone such as \"Europe/Berlin\"",
    json_schema!({ "type": "string", "format": "time zone", "minLength": 1 })
}
text! {
    /// A path; relative ones start at the folder of the file.
    PathText, "a path in quotes",
    json_schema!({ "type": "string", "format": "path", "minLength": 1 })
}
text! {
    /// The name of a user or group, or its number in quotes.
    AccountText, "a name in quotes, or a number in quotes",
    json_schema!({ "type": "string", "format": "name or number", "minLength": 1 })
}
text! {
    /// A plain text.
    Text, "a text in quotes",
    json_schema!({ "type": "string" })
}

/// A text that may be a secret: its `Debug` prints `***`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretText(pub(crate) Secret);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Text::deserialize(from).map(|text| Self(Secret::new(text.0)))
    }
}

impl JsonSchema for SecretText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "SecretText".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// `["program", "argument"]`, or one text that is split the way a shell would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommandText {
    Words(Vec<String>),
    Line(String),
}

impl<'de> Deserialize<'de> for CommandText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Command;
        impl<'de> Visitor<'de> for Command {
            type Value = CommandText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command such as [\"python3\", \"bot.py\"] or \"python3 bot.py\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<CommandText, E> {
                Ok(CommandText::Line(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<CommandText, A::Error> {
                let mut words = Vec::new();
                while let Some(Text(word)) = items.next_element()? {
                    words.push(word);
                }
                Ok(CommandText::Words(words))
            }
        }
        from.deserialize_any(Command)
    }
}

impl JsonSchema for CommandText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "CommandText".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "format": "command",
            "anyOf": [
                { "type": "array", "items": { "type": "string" }, "minItems": 1 },
                { "type": "string", "minLength": 1 }
            ]
        })
    }
}
