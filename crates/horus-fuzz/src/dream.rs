//! Well-typed values out of bytes: a deserializer whose input is imagination.
//!
//! Whatever a type asks for (a struct with these fields, one of these variants) is what it gets, so everything in Horus
//! that can be read can also be dreamed, today's variants and tomorrow's, without a generator for each of them. Types
//! that look at what is there before they decide (untagged, internally tagged) cannot be dreamed; their parts can.

use serde::de::value::{Error, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer as _, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};

use crate::source::Source;

/// Names of services, monitors and sinks: few, so that values meet.
pub const NAMES: [&str; 4] = ["a", "b", "c", "web"];
/// Longest list or map.
const ITEMS_MAX: usize = 4;
/// Deeper values are empty.
const DEPTH_MAX: usize = 24;

/// Dreams a value. `None`: the type refused a text that it was given.
pub fn dream<'de, T: Deserialize<'de>>(source: &mut Source<'_>) -> Option<T> {
    source.field = "";
    T::deserialize(Dreamer(source)).ok()
}

/// A text that suits the field.
fn text(source: &mut Source<'_>) -> String {
    const INCIDENTS: [&str; 4] = ["H-7F3K", "H-0000", "H-ZZZZ", "H-MEJ1"];
    const PATTERNS: [&str; 5] = ["0 6 * * *", "*/5 * * * *", "0 0 29 2 *", "30 2 * * 7", "^tick \\d+$"];
    const ZONES: [&str; 3] = ["UTC", "Europe/Berlin", "America/St_Johns"];
    const SIGNALS: [&str; 4] = ["SIGTERM", "SIGKILL", "SIGQUIT", "nothing"];
    match source.field {
        "incident" | "id" | "into" => (*source.pick(&INCIDENTS)).to_owned(),
        "pattern" => (*source.pick(&PATTERNS)).to_owned(),
        "zone" => (*source.pick(&ZONES)).to_owned(),
        "signal" => (*source.pick(&SIGNALS)).to_owned(),
        "text" | "detail" | "error" | "phrase" | "reason" | "note" | "fault" | "how" | "missing"
        | "last_lines" | "stopped" | "bundle" | "place" | "why" | "hint" => free_text(source),
        _ => (*source.pick(&NAMES)).to_owned(),
    }
}

fn free_text(source: &mut Source<'_>) -> String {
    const TEXTS: [&str; 6] =
        ["", "futex", "no answer in 2 s", "\"\\\u{0}\n\u{1b}[2J", "\u{202e}ü\u{10ffff}", "null"];
    match source.byte() % 8 {
        0..=4 => (*source.pick(&TEXTS)).to_owned(),
        5 => "long ".repeat(source.below(1_000)),
        _ => String::from_utf8_lossy(source.take(12)).into_owned(),
    }
}

struct Dreamer<'s, 'b>(&'s mut Source<'b>);

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty,)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            // Any number will do, so the low bits of one do.
            visitor.$visit(self.0.number() as $type)
        })+
    };
}

impl<'de> Deserializer<'de> for Dreamer<'_, '_> {
    type Error = Error;

    numbers! {
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let in_time = self.0.field.ends_with("_ms");
        visitor.visit_u64(if in_time { self.0.milliseconds() } else { self.0.number() })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("a type that has to see its input first cannot be dreamed"))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.0.byte() % 2 == 1)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.0.float())
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.0.float())
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_char(char::from(self.0.byte()))
    }

    /// What reads a borrowed text parses it: an instant, mostly.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        const INSTANTS: [&str; 6] = [
            "2026-11-22T12:00:00Z",
            "2026-03-29T00:59:59.999Z",
            "2026-10-25T01:30:00+00:00",
            "-009999-01-02T01:59:59Z",
            "9999-12-30T22:00:00Z",
            "1970-01-01T00:00:00Z",
        ];
        let instant: &str = self.0.pick::<&str>(&INSTANTS);
        visitor.visit_str(instant)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(text(self.0))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.byte().is_multiple_of(2) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let left = if self.0.depth < DEPTH_MAX { self.0.below(ITEMS_MAX) } else { 0 };
        visitor.visit_seq(Items { source: self.0, left })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { source: self.0, left: length })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { source: self.0, left: length })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let left = if self.0.depth < DEPTH_MAX { self.0.below(ITEMS_MAX) } else { 0 };
        visitor.visit_map(Items { source: self.0, left })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == "Duration" {
            let all_ms = self.0.milliseconds();
            let nanoseconds = all_ms % 1_000 * 1_000_000;
            let parts = [("secs", all_ms / 1_000), ("nanos", nanoseconds)];
            return visitor.visit_map(serde::de::value::MapDeserializer::new(parts.into_iter()));
        }
        visitor.visit_map(Fields { source: self.0, left: fields })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let variant = variants[self.0.below(variants.len())];
        visitor.visit_enum(Variant { source: self.0, variant })
    }

    forward_to_deserialize_any! { i128 u128 bytes byte_buf identifier ignored_any }
}

struct Items<'s, 'b> {
    source: &'s mut Source<'b>,
    left: usize,
}

impl Items<'_, '_> {
    fn item<'de, T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        self.source.depth += 1;
        let made = seed.deserialize(Dreamer(self.source));
        self.source.depth -= 1;
        made
    }
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        self.item(seed).map(Some)
    }
}

impl<'de> MapAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        self.item(seed).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.item(seed)
    }
}

struct Fields<'s, 'b> {
    source: &'s mut Source<'b>,
    left: &'static [&'static str],
}

impl<'de> MapAccess<'de> for Fields<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((field, left)) = self.left.split_first() else { return Ok(None) };
        self.left = left;
        self.source.field = field;
        let name: StrDeserializer<'_, Error> = (*field).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.source.depth += 1;
        let made = seed.deserialize(Dreamer(self.source));
        self.source.depth -= 1;
        made
    }
}

struct Variant<'s, 'b> {
    source: &'s mut Source<'b>,
    variant: &'static str,
}

impl<'de, 's, 'b> EnumAccess<'de> for Variant<'s, 'b> {
    type Error = Error;
    type Variant = Dreamer<'s, 'b>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self::Variant), Error> {
        let name: StrDeserializer<'_, Error> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, Dreamer(self.source)))
    }
}

impl<'de> VariantAccess<'de> for Dreamer<'_, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use horus_core::event::What;
    use horus_core::observation::{Input, Observation};
    use horus_core::plan::Plan;

    use super::*;

    /// Bytes without a pattern, the same in each run.
    fn noise(seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(4_000).collect()
    }

    fn dreamed<T: for<'de> Deserialize<'de>>() -> Vec<T> {
        (0..4_000).filter_map(|seed| dream(&mut Source::new(&noise(seed)))).collect()
    }

    /// A dream that never comes is a target that never tests.
    #[test]
    fn every_variant_is_dreamed() {
        let variant = |debug: String| debug.split(['(', ' ', '{']).next().unwrap_or_default().to_owned();
        let inputs: BTreeSet<_> =
            dreamed::<Input>().iter().map(|input| variant(format!("{input:?}"))).collect();
        assert!(inputs.len() >= 12, "{inputs:?}");
        let seen: BTreeSet<_> =
            dreamed::<Observation>().iter().map(|seen| variant(format!("{seen:?}"))).collect();
        assert!(seen.len() >= 14, "{seen:?}");
        let events: BTreeSet<_> = dreamed::<What>().iter().map(|what| variant(format!("{what:?}"))).collect();
        assert!(events.len() >= 35, "{events:?}");
        let plans = dreamed::<Plan>();
        assert!(plans.len() >= 2_000, "only {} of 4000", plans.len());
        assert!(plans.iter().any(|plan| plan.services.len() > 1 && !plan.maintenance.is_empty()));
    }
}
