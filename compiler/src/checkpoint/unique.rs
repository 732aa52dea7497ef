//! Refuses a JSON object that gives a key twice.
//!
//! In: keys as a visitor meets them. Out: an error on the second meeting. Plain maps keep the last value without a word,
//! so two readers of one file could see two models.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The keys met so far.
#[derive(Default)]
pub(super) struct Unique(BTreeSet<String>);

impl Unique {
    /// Remembers `key`, which must be new.
    pub(super) fn insert<E: Error>(&mut self, key: &str) -> Result<(), E> {
        if self.0.insert(key.to_owned()) {
            return Ok(());
        }
        Err(E::custom(format!("the name {key:?} is there twice")))
    }
}

/// Refuses a JSON `text` in which any object, however deep, gives a key twice.
pub(crate) fn check_unique_keys(text: &[u8]) -> serde_json::Result<()> {
    serde_json::from_slice::<AnyUnique>(text).map(|AnyUnique| ())
}

/// Any JSON value; only looked at.
struct AnyUnique;

impl<'de> Deserialize<'de> for AnyUnique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = AnyUnique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyUnique, A::Error> {
        let mut names = Unique::default();
        while let Some((name, AnyUnique)) = map.next_entry::<String, _>()? {
            names.insert(&name)?;
        }
        Ok(AnyUnique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AnyUnique, A::Error> {
        while let Some(AnyUnique) = seq.next_element()? {}
        Ok(AnyUnique)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<AnyUnique, E> {
        Ok(AnyUnique)
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<AnyUnique, E> {
        Ok(AnyUnique)
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<AnyUnique, E> {
        Ok(AnyUnique)
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<AnyUnique, E> {
        Ok(AnyUnique)
    }
    fn visit_str<E: Error>(self, _: &str) -> Result<AnyUnique, E> {
        Ok(AnyUnique)
    }
    fn visit_unit<E: Error>(self) -> Result<AnyUnique, E> {
        Ok(AnyUnique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_twice_is_refused_wherever_it_is() {
        for good in ["7", r#"{"a": [1, -1, 0.5, "x", null, true, {"a": 1}], "b": {"a": 1}}"#] {
            check_unique_keys(good.as_bytes()).expect(good);
        }
        for bad in [r#"{"a": 1, "a": 1}"#, r#"{"b": [{"a": {"c": 1, "c": null}}]}"#, r#"{"a": 1, "\u0061": 2}"#] {
            let e = check_unique_keys(bad.as_bytes()).expect_err(bad);
            assert!(e.to_string().contains("is there twice"), "{e}");
        }
    }
}
