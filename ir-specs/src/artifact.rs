//! The rows of `artifact.toml`.

use serde::Deserialize;

/// `artifact.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactTable {
    /// Constants.
    #[serde(rename = "constant")]
    pub constants: Vec<ArtifactConstant>,
    /// Labels of eight bytes.
    #[serde(rename = "label")]
    pub labels: Vec<ArtifactLabel>,
    /// Fields of the header.
    #[serde(rename = "field")]
    pub fields: Vec<LayoutRow>,
    /// Fields of an entry of the section table.
    #[serde(rename = "entry")]
    pub entries: Vec<LayoutRow>,
    /// Sections.
    #[serde(rename = "section")]
    pub sections: Vec<SectionRow>,
}

/// A constant of the layout.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactConstant {
    /// Name.
    pub name: String,
    /// Value.
    pub value: u32,
    /// What it means.
    pub doc: String,
}

/// Eight bytes by which something is known.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactLabel {
    /// Name.
    pub name: String,
    /// The bytes, as characters below 256.
    pub value: String,
    /// What it marks.
    pub doc: String,
}

impl ArtifactLabel {
    /// The bytes; characters from 256 on do not count.
    pub fn bytes(&self) -> Vec<u8> {
        self.value.chars().filter_map(|c| u8::try_from(u32::from(c)).ok()).collect()
    }
}

/// A field at a fixed place.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutRow {
    /// Name.
    pub name: String,
    /// Where it starts.
    pub offset: u32,
    /// `u32`, `u64` or `bytes`.
    #[serde(rename = "type")]
    pub ty: String,
    /// Bytes of a field of `bytes`.
    #[serde(default = "one")]
    pub count: u32,
    /// What it holds.
    pub doc: String,
}

impl LayoutRow {
    /// Its bytes; `None` for an unknown type.
    pub fn bytes(&self) -> Option<u32> {
        match self.ty.as_str() {
            "u32" => Some(4),
            "u64" => Some(8),
            "bytes" => Some(self.count),
            _ => None,
        }
    }
}

fn one() -> u32 {
    1
}

/// A kind of section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SectionRow {
    /// Name.
    pub name: String,
    /// Its number in the section table.
    pub kind: u32,
    /// Whether every artifact has one.
    pub required: bool,
    /// What it holds.
    pub doc: String,
}

impl SectionRow {
    /// The name as a variant of a Rust enum.
    pub fn variant(&self) -> String {
        let words = self.name.split('_').map(|word| {
            let mut letters = word.chars();
            letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
        });
        words.collect()
    }
}
