//! Whether a licence expression (SPDX, and the older `MIT/Apache-2.0`) can be met with a list of licences.

use anyhow::{Result, bail};

/// Whether one may choose among the alternatives of `expression` so that every licence left is in `allowed`.
///
/// # Errors
/// It is no expression.
pub(super) fn is_met(expression: &str, allowed: &[String]) -> Result<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, allowed };
    let met = reader.alternatives()?;
    if reader.words.is_empty() { Ok(met) } else { bail!("unexpected {:?} in {expression:?}", reader.words) }
}

struct Reader<'a> {
    words: &'a [&'a str],
    allowed: &'a [String],
}

impl Reader<'_> {
    fn alternatives(&mut self) -> Result<bool> {
        let mut met = self.together()?;
        while self.take("OR") {
            met |= self.together()?;
        }
        Ok(met)
    }

    fn together(&mut self) -> Result<bool> {
        let mut met = self.one()?;
        while self.take("AND") {
            met &= self.one()?;
        }
        Ok(met)
    }

    fn one(&mut self) -> Result<bool> {
        if self.take("(") {
            let met = self.alternatives()?;
            return if self.take(")") { Ok(met) } else { bail!("a bracket is not closed") };
        }
        let Some((licence, rest)) = self.words.split_first() else { bail!("a licence is missing") };
        self.words = rest;
        let mut name = (*licence).to_owned();
        if self.take("WITH") {
            let Some((exception, rest)) = self.words.split_first() else { bail!("an exception is missing") };
            self.words = rest;
            name = format!("{name} WITH {exception}");
        }
        Ok(self.allowed.contains(&name))
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(expression: &str) -> bool {
        is_met(expression, &["MIT".into(), "ISC".into(), "Apache-2.0 WITH LLVM-exception".into()]).unwrap()
    }

    #[test]
    fn one_alternative_is_enough_and_all_parts_are_needed() {
        assert!(met("MIT"));
        assert!(met("Unlicense OR MIT"));
        assert!(met("MIT/Apache-2.0"));
        assert!(met("MIT AND ISC"));
        assert!(met("(GPL-3.0 OR MIT) AND ISC"));
        assert!(met("Apache-2.0 WITH LLVM-exception"));
        assert!(!met("GPL-3.0"));
        assert!(!met("MIT AND GPL-3.0"));
        assert!(!met("GPL-3.0 OR (MIT AND MPL-2.0)"));
        assert!(!met("Apache-2.0"));
    }

    #[test]
    fn what_is_no_expression_is_an_error() {
        for bad in ["", "MIT OR", "(MIT", "MIT ISC", "MIT WITH"] {
            assert!(is_met(bad, &[]).is_err(), "{bad}");
        }
    }
}
