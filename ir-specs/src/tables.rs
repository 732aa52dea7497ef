//! The tables as they are written: one struct per kind of row, nothing interpreted.
//!
//! In: the TOML files. Out: [`Tables`]. Unknown keys are refused, so a misspelt one is an error and not a default.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use crate::artifact::{ArtifactTable, LayoutRow};
use crate::error::{Error, Result};

/// All tables.
#[derive(Clone, Debug)]
pub struct Tables {
    /// `ops.toml`.
    pub ops: Vec<OpRow>,
    /// `dtypes.toml`.
    pub dtypes: Vec<DTypeRow>,
    /// `packings.toml`.
    pub packings: Vec<PackingRow>,
    /// `rules.toml`.
    pub rules: Vec<RuleRow>,
    /// `knobs.toml`.
    pub knobs: Vec<KnobRow>,
    /// `abi.toml`.
    pub abi: AbiTable,
    /// `artifact.toml`.
    pub artifact: ArtifactTable,
}

/// One op.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpRow {
    /// Name in the text form.
    pub name: String,
    /// Variant of the Rust enum.
    pub variant: String,
    /// One sentence.
    pub summary: String,
    /// In which form of a graph it may stand.
    pub form: FormRow,
    /// Whether only the optimiser makes it.
    #[serde(default)]
    pub fused: bool,
    /// Operands in the signature language.
    pub operands: Vec<String>,
    /// Result in the signature language.
    pub result: String,
    /// Attributes.
    #[serde(default)]
    pub attrs: Vec<AttrRow>,
    /// The equation.
    pub semantics: String,
    /// Paper, HF file or own.
    pub source: String,
    /// Constraints, in order.
    #[serde(default, rename = "constraint")]
    pub constraints: Vec<ConstraintRow>,
    /// Examples, at least one.
    #[serde(default, rename = "example")]
    pub examples: Vec<ExampleRow>,
}

/// The form of a graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FormRow {
    /// What importers write.
    Source,
    /// What the schedule accepts.
    Compiled,
    /// Both.
    Both,
}

/// One attribute.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttrRow {
    /// Name.
    pub name: String,
    /// Kind of value.
    pub kind: AttrKindRow,
    /// What it is.
    pub doc: String,
}

/// The kind of an attribute's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttrKindRow {
    /// Unsigned number.
    U32,
    /// Real number.
    F32,
    /// Activation function.
    Act,
    /// A way to compute a ternary product; `any` is not written.
    Strategy,
}

/// One constraint.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConstraintRow {
    /// `C1`, `C2`, ... in order.
    pub id: String,
    /// The sentence.
    pub text: String,
    /// How to check it.
    pub check: CheckRow,
    /// A graph that breaks it and nothing else of its op.
    pub violation: String,
}

/// The check behind a constraint; the names are those of `tern_compiler::spec::Check`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckRow {
    /// A positive, finite f32 attribute.
    AttrPositive(String),
    /// A u32 attribute in a range.
    AttrInRange(String, u32, u32),
    /// A u32 attribute that is at most a dimension.
    AttrAtMostDim(String, String),
    /// An even u32 attribute.
    AttrEven(String),
    /// A u32 attribute that is a power of two.
    AttrPowerOfTwo(String),
    /// An attribute that no other node of the op shares.
    AttrUnique(String),
    /// A u32 attribute below the member count of the first operand.
    AttrBelowMembers(String),
    /// A dimension with a largest value.
    DimAtMost(String, u32),
    /// A dimension that another divides.
    DimMultipleOf(String, String),
    /// An operand that a certain op makes.
    OperandIs(String, String),
    /// An operand that nothing else reads.
    SoleReader(String),
}

/// One example of an op.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleRow {
    /// What it shows.
    #[serde(default)]
    pub note: String,
    /// A whole graph.
    pub graph: String,
    /// Elements of each weight.
    pub weights: Vec<Vec<f64>>,
    /// Tokens of the step.
    pub ids: Vec<u32>,
    /// The value that is compared.
    pub node: u32,
    /// What it must be.
    pub expect: ExpectRow,
    /// Largest absolute difference.
    #[serde(default)]
    pub tolerance: f64,
}

/// The expected value: `f32`, or `i32`, or `codes` with `scales`, or `tuple` of f32.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectRow {
    /// Elements of an f32 tensor.
    pub f32: Option<Vec<f64>>,
    /// Elements of an i32 tensor.
    pub i32: Option<Vec<i32>>,
    /// Codes of a q8 tensor.
    pub codes: Option<Vec<i8>>,
    /// Row scales of a q8 tensor.
    pub scales: Option<Vec<f64>>,
    /// Elements of each f32 member.
    pub tuple: Option<Vec<Vec<f64>>>,
}

/// One element type.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DTypeRow {
    /// Name in the text form.
    pub name: String,
    /// Variant of the Rust enum.
    pub variant: String,
    /// One sentence.
    pub summary: String,
    /// Bits of one element.
    pub bits: u32,
    /// What the bits mean.
    pub meaning: String,
}

/// One packing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackingRow {
    /// Name.
    pub name: String,
    /// Variant of the Rust enum.
    pub variant: String,
    /// One sentence.
    pub summary: String,
    /// `trit`, `sign` (trits none of which is zero) or `dense`.
    pub weights: String,
    /// Rows of one tile.
    pub tile_rows: u32,
    /// Rows are padded to a multiple of this.
    pub rows_multiple: u32,
    /// Columns of one block.
    pub block_cols: u32,
    /// Bytes of one tile by one block; none if an element keeps its own size.
    pub block_bytes: Option<u32>,
    /// Alignment of the first byte.
    pub align_bytes: u32,
    /// The order of the bytes.
    pub layout: String,
}

/// One rewrite rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleRow {
    /// `family/what`.
    pub name: String,
    /// Why it pays.
    pub why: String,
    /// When it may act.
    pub class: ClassRow,
    /// What is looked for.
    pub lhs: Side,
    /// What is equal to it.
    pub rhs: Side,
    /// Conditions, from the closed list.
    #[serde(default)]
    pub guards: Vec<String>,
    /// Whether it stands for all ops with the attributes `decode` and `prefill`.
    #[serde(default)]
    pub family: bool,
}

/// One side of a rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Side {
    /// One pattern.
    One(String),
    /// Several named roots.
    Roots(Vec<String>),
}

impl Side {
    /// Its patterns.
    pub fn patterns(&self) -> &[String] {
        match self {
            Side::One(p) => std::slice::from_ref(p),
            Side::Roots(ps) => ps,
        }
    }
}

/// What a rule may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassRow {
    /// Not a bit.
    Bitwise,
    /// Equal over the reals.
    Real,
    /// Not equal.
    Approx,
}

/// One knob.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnobRow {
    /// Option name without dashes.
    pub name: String,
    /// Environment variable.
    pub env: String,
    /// Kind of value.
    #[serde(rename = "type")]
    pub kind: KnobKindRow,
    /// The words of a choice.
    #[serde(default)]
    pub choices: Vec<String>,
    /// The least number.
    pub min: Option<u64>,
    /// The largest number.
    pub max: Option<u64>,
    /// The default.
    pub default: String,
    /// What it does.
    pub doc: String,
}

/// The kind of a knob's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnobKindRow {
    /// One of `choices`.
    Choice,
    /// `min..=max`.
    Number,
    /// `min..=max` or `auto`.
    NumberOrAuto,
    /// A folder or `auto`.
    FolderOrAuto,
    /// The path of a file, or one of `choices`.
    FileOrChoice,
}

/// `abi.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbiTable {
    /// Constants.
    #[serde(rename = "constant")]
    pub constants: Vec<AbiConstant>,
    /// Structs.
    #[serde(rename = "struct")]
    pub structs: Vec<AbiStruct>,
    /// Data that a model brings.
    pub data: Vec<AbiData>,
    /// Function types.
    #[serde(rename = "function")]
    pub functions: Vec<AbiFunction>,
}

/// One constant of the ABI.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbiConstant {
    /// The group in which its value is unique.
    pub group: String,
    /// Name.
    pub name: String,
    /// Value.
    pub value: u32,
    /// What it means.
    pub doc: String,
}

/// One function type of the ABI.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbiFunction {
    /// Name of the Rust type.
    pub name: String,
    /// Name of the C symbol, without the model's prefix.
    pub c_name: String,
    /// Whether the caller has the function, and not the model.
    #[serde(default)]
    pub callback: bool,
    /// What it does.
    pub doc: String,
    /// Arguments in order.
    pub args: Vec<AbiArg>,
    /// Type of the result, or `void`.
    pub returns: String,
}

/// One struct of the ABI, without padding.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbiStruct {
    /// Name of the Rust type.
    pub name: String,
    /// Name of the C type, without `tern_`.
    pub c_name: String,
    /// What it is.
    pub doc: String,
    /// Fields in order.
    pub fields: Vec<AbiArg>,
}

/// One data symbol of a model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbiData {
    /// Name of the C symbol, without the model's prefix.
    pub c_name: String,
    /// A struct, or `[u8]`.
    #[serde(rename = "type")]
    pub ty: String,
    /// Whether only models that carry their weights have it.
    #[serde(default)]
    pub optional: bool,
    /// What it is.
    pub doc: String,
}

/// One argument or field.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbiArg {
    /// Name.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub ty: String,
    /// What it is.
    pub doc: String,
}

impl AbiArg {
    /// Bytes of a number, or of an array of numbers; 0 for what is neither.
    pub fn bytes(&self) -> u64 {
        let scalar = |ty: &str| match ty {
            "u8" => 1,
            "u16" => 2,
            "u32" | "f32" => 4,
            "u64" => 8,
            _ => 0,
        };
        let array =
            self.ty.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).and_then(|rest| rest.split_once("; "));
        array.map_or(scalar(&self.ty), |(element, elems)| scalar(element) * elems.parse::<u64>().unwrap_or(0))
    }
}

impl Tables {
    /// Reads the tables of a folder.
    ///
    /// # Errors
    /// If a file is missing or is not of the right shape; the message names file and place.
    pub fn load(folder: &Path) -> Result<Self> {
        Ok(Self {
            ops: rows(folder, "ops.toml", "op")?,
            dtypes: rows(folder, "dtypes.toml", "dtype")?,
            packings: rows(folder, "packings.toml", "packing")?,
            rules: rows(folder, "rules.toml", "rule")?,
            knobs: rows(folder, "knobs.toml", "knob")?,
            abi: file(folder, "abi.toml")?,
            artifact: file(folder, "artifact.toml")?,
        })
    }

    /// The op called `name`.
    pub fn op(&self, name: &str) -> Option<&OpRow> {
        self.ops.iter().find(|op| op.name == name)
    }
}

fn file<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<T> {
    let path = folder.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(|source| Error::Shape { path, source: Box::new(source) }),
        Err(source) => Err(Error::Read { path, source }),
    }
}

/// The rows of a file whose only key is `key`.
fn rows<T: DeserializeOwned>(folder: &Path, name: &str, key: &str) -> Result<Vec<T>> {
    let mut table: BTreeMap<String, Vec<T>> = file(folder, name)?;
    let (file, rows) = (name.to_owned(), table.remove(key));
    match (rows, table.into_keys().next()) {
        (Some(rows), None) => Ok(rows),
        (Some(_), Some(found)) => Err(Error::OtherRows { file, found, key: key.to_owned() }),
        (None, _) => Err(Error::NoRows { file, key: key.to_owned() }),
    }
}
