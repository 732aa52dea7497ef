// Written by the generator of `ir-specs` from `artifact.toml`. Do not edit.
//! The layout of an artifact, from `ir-specs/artifact.toml`.

/// The version of the layout that this table describes.
pub const VERSION: u32 = 3;

/// What `byte_order` holds; its bytes the other way round mean a file of a big-endian writer.
pub const BYTE_ORDER: u32 = 16909060;

/// Bytes of the header, section table included; those that no field names are 0.
pub const HEADER_BYTES: u32 = 4096;

/// Where the section table starts.
pub const TABLE_OFFSET: u32 = 256;

/// Bytes of an entry of the section table.
pub const ENTRY_BYTES: u32 = 32;

/// The most sections.
pub const MAX_SECTIONS: u32 = 16;

/// What every section starts at a multiple of, from the start of the artifact; what lies between two sections is 0.
pub const ALIGN_BYTES: u32 = 4096;

/// Bytes of the weights under one sum of `weight_sums`; the last piece may be shorter.
pub const PIECE_BYTES: u32 = 4194304;

/// Bytes at the end of a program that carries an artifact: `footer_label`, offset u64 and bytes u64 of the artifact in the file, XXH3-64 of these 24 bytes.
pub const FOOTER_BYTES: u32 = 32;

/// The first eight bytes of an artifact: no text, and damaged by whatever rewrites line ends.
pub const LABEL: [u8; 8] = [137, 84, 69, 82, 78, 13, 10, 26];

/// The first eight bytes of the footer of a program.
pub const FOOTER_LABEL: [u8; 8] = [84, 69, 82, 78, 80, 82, 79, 71];

/// What kind of file this is.
pub const AT_LABEL: usize = 0;

/// The version of the layout; a reader refuses one that it does not know before it believes anything else.
pub const AT_VERSION: usize = 8;

/// `BYTE_ORDER`.
pub const AT_BYTE_ORDER: usize = 12;

/// Bytes of the whole artifact: the end of its last section.
pub const AT_FILE_BYTES: usize = 16;

/// Entries of the section table.
pub const AT_N_SECTIONS: usize = 24;

/// The architecture of the code, as ELF numbers it: 62 x86-64, 183 aarch64, 243 riscv.
pub const AT_ARCH: usize = 28;

/// `FEATURE_` bits of the ABI that the code needs at least.
pub const AT_FEATURES: usize = 32;

/// The version of the C ABI that the code obeys.
pub const AT_ABI_VERSION: usize = 36;

/// SHA-256 of the list of the checkpoint's files: for each, in the order of their names, its SHA-256 in hexadecimal, two spaces, its name, a line feed (what `sha256sum FILES | sha256sum` computes).
pub const AT_CHECKPOINT: usize = 40;

/// XXH3-64 of the header with this field 0.
pub const AT_HEADER_SUM: usize = 72;

/// Which section.
pub const ENTRY_KIND: usize = 0;

/// 0.
pub const ENTRY_ZERO: usize = 4;

/// Where it starts, from the start of the artifact. Sections follow each other in the order of the table.
pub const ENTRY_OFFSET: usize = 8;

/// Its bytes, without what fills it up to the next section.
pub const ENTRY_LENGTH: usize = 16;

/// XXH3-64 of its bytes; of `weights`, of the bytes of `weight_sums`.
pub const ENTRY_SUM: usize = 24;

/// What a section holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Machine code, position-independent, without relocations.
    Code = 1,
    /// `tokenizer.json`, as it is.
    Tokenizer = 2,
    /// `tokenizer_config.json`, as it is.
    TokenizerConfig = 3,
    /// `chat_template.jinja`, as it is.
    ChatTemplate = 4,
    /// The figures of `tern tune` by which the code was chosen: the text of their file.
    Tuning = 5,
    /// The packed weights, as the code reads them.
    Weights = 6,
    /// XXH3-64 of each piece of the weights, u64 each: threads read and check pieces on their own.
    WeightSums = 7,
    /// JSON: the facts that a user of the model needs, how it was built, the entry points and functions of the code.
    Meta = 8,
}

impl Kind {
    /// All of them, in the order in which they lie.
    pub const ALL: &'static [Kind] = &[
        Kind::Code,
        Kind::Tokenizer,
        Kind::TokenizerConfig,
        Kind::ChatTemplate,
        Kind::Tuning,
        Kind::Weights,
        Kind::WeightSums,
        Kind::Meta,
    ];

    /// The name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Code => "code",
            Kind::Tokenizer => "tokenizer",
            Kind::TokenizerConfig => "tokenizer_config",
            Kind::ChatTemplate => "chat_template",
            Kind::Tuning => "tuning",
            Kind::Weights => "weights",
            Kind::WeightSums => "weight_sums",
            Kind::Meta => "meta",
        }
    }

    /// Whether every artifact has one.
    pub const fn is_required(self) -> bool {
        match self {
            Kind::Code => true,
            Kind::Tokenizer => false,
            Kind::TokenizerConfig => false,
            Kind::ChatTemplate => false,
            Kind::Tuning => false,
            Kind::Weights => true,
            Kind::WeightSums => true,
            Kind::Meta => true,
        }
    }
}
