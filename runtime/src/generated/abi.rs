// Written by the generator of `ir-specs` from `abi.toml`. Do not edit.
//! The C ABI of a compiled model, from `ir-specs/abi.toml`.

use core::ffi::c_void;

// what holds for every model

/// The version that this table describes: it changes whenever a caller would have to.
pub const ABI_VERSION: u32 = 1;
/// Weights and states start at a multiple of so many bytes.
pub const ALIGN_BYTES: u32 = 64;
/// The most ids of `eos` in the facts of a model.
pub const MAX_EOS: u32 = 16;
/// In place of a token id: there is none.
pub const NO_TOKEN: u32 = 4294967295;

// want: which logits `step` writes

/// No logits.
pub const WANT_NONE: u32 = 0;
/// The last token's.
pub const WANT_LAST: u32 = 1;
/// Every token's.
pub const WANT_ALL: u32 = 2;
/// The `k` largest of the last token, `want = WANT_TOP_K | k << 8`; `out` gets k ids (u32), then k logits (f32).
pub const WANT_TOP_K: u32 = 3;

// model kind: what a step gives

/// Logits: the model continues texts.
pub const MODEL_CONTINUES: u32 = 0;
/// Embeddings: the model embeds texts. The last token's is the text's, if that ends with `eos`; there is no `WANT_TOP_K`.
pub const MODEL_EMBEDS: u32 = 1;

// kv_type: element type of keys and values

/// f32 keys and values.
pub const KV_F32: u32 = 0;
/// f16 keys and values.
pub const KV_F16: u32 = 1;

// status: what a function returns

/// The step was done.
pub const STATUS_OK: u32 = 0;
/// A token id is not below the vocabulary's size.
pub const STATUS_BAD_TOKEN: u32 = 1;
/// `n` is 0 or above the most tokens of one step; of a batch: of a piece, or of all together, or there is no piece.
pub const STATUS_BAD_COUNT: u32 = 2;
/// `pos` is beyond the sequence's length, or `pos + n` beyond the context; of a piece `row + pos` is beyond the length, not where the piece before ends, or `row + pos + n` beyond the context.
pub const STATUS_BAD_POSITION: u32 = 3;
/// `seq` is not below the number of sequences; of a piece: or below that of the piece before.
pub const STATUS_BAD_SEQUENCE: u32 = 4;
/// `want` is unknown, or its k is 0 or above the vocabulary's size or the most that a step can select, or a batch of several pieces wants the k largest.
pub const STATUS_BAD_WANT: u32 = 5;
/// The state block was not made by `state_init` of this model, or does not start at a multiple of 64.
pub const STATUS_BAD_STATE: u32 = 6;
/// `tid` is not below `n_threads`.
pub const STATUS_BAD_THREAD: u32 = 7;
/// The CPU lacks features that the code needs, or `features` leave out its least level.
pub const STATUS_BAD_CPU: u32 = 8;

// what a step leaves in the state block for its caller: byte offsets

/// u32: rows of the head that the last step computed exactly; 0 if it gave no logits.
pub const STATE_EXACT_ROWS: u32 = 48;
/// u32: rows of the head whose coarse copy the last step read; 0 if it used none.
pub const STATE_COARSE_ROWS: u32 = 52;
/// u32: after a step with `WANT_TOP_K`, the first token whose logit is NaN or plus infinity; 2^32 - 1 if there is none.
pub const STATE_BAD_ID: u32 = 56;
/// f32: that token's logit.
pub const STATE_BAD_LOGIT: u32 = 60;

// features: what a CPU has, bits that `state_init` takes

/// x86-64 with SSE3, SSSE3 and SSE4.1.
pub const FEATURE_SSE41: u32 = 1;
/// SSE4.2, POPCNT, AVX2, FMA, F16C, BMI1, BMI2 and LZCNT, and a system that keeps 256-bit registers.
pub const FEATURE_AVX2: u32 = 2;
/// AVX-VNNI.
pub const FEATURE_AVXVNNI: u32 = 4;
/// AVX-512 F, BW, DQ, VL and VNNI, and a system that keeps 512-bit registers.
pub const FEATURE_AVX512VNNI: u32 = 8;
/// AVX-512 VBMI.
pub const FEATURE_AVX512VBMI: u32 = 16;
/// aarch64 with its 128-bit vectors.
pub const FEATURE_NEON: u32 = 32;
/// FEAT_DotProd.
pub const FEATURE_DOTPROD: u32 = 64;
/// riscv64 with the V extension.
pub const FEATURE_RVV: u32 = 128;

// split: how a text is cut into words before pairs of tokens are merged

/// The table cannot encode: it decodes alone, and has neither merges nor words.
pub const SPLIT_NONE: u32 = 0;
/// By the expression of GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
pub const SPLIT_GPT2: u32 = 1;
/// By the expression of Llama 3: `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
pub const SPLIT_LLAMA3: u32 = 2;

// kind: what a token is

/// Its bytes are text.
pub const TOKEN_TEXT: u32 = 0;
/// A mark; its bytes say how it is written, and are no text.
pub const TOKEN_SPECIAL: u32 = 1;
/// The model has the id, its tokenizer does not; it has no bytes.
pub const TOKEN_ABSENT: u32 = 2;

/// What a caller must know of a model.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// `ABI_VERSION` of the compiler that made it; the fields behind this one mean what is said here only if it is yours.
    pub abi_version: u32,
    /// `FEATURE_` bits that the code needs at the least.
    pub features: u32,
    /// Tokens of the vocabulary: elements of a row of logits.
    pub vocab: u32,
    /// The most tokens of a sequence: the largest `context` of `state_bytes`.
    pub max_context: u32,
    /// The most tokens of one step; longer texts take several steps.
    pub max_step_tokens: u32,
    /// The largest k of `WANT_TOP_K`.
    pub max_top_k: u32,
    /// The token that a text starts with, or `NO_TOKEN`.
    pub bos: u32,
    /// Ids in `eos`.
    pub n_eos: u32,
    /// The tokens that end a text; `NO_TOKEN` behind the last.
    pub eos: [u32; 16],
    /// Bytes of the packed weights.
    pub weights_bytes: u64,
    /// XXH3 of these bytes, 64 bits, seed 0: whether a file is the right one.
    pub weights_hash: u64,
    /// Bytes of the table of tokens.
    pub tokens_bytes: u64,
    /// What the model is called, for people: UTF-8, cut to 63 bytes, zeros behind.
    pub name: [u8; 64],
    /// `MODEL_` constant: what a step gives.
    pub kind: u32,
    /// Elements of a row of `out`: `vocab` of a model that continues texts, the length of an embedding of one that embeds them.
    pub out_elems: u32,
}

/// Tokens of one text in a step of several: the `n` that follow those of the piece before, at positions `pos..pos + n`. The keys and values of position 0 of the text lie in row `row` of the sequence's: with rows apart several texts lie in one sequence, and none sees another.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Tokens, at least 1.
    pub n: u32,
    /// Position of the first in its text.
    pub pos: u32,
    /// The sequence, not below that of the piece before.
    pub seq: u32,
    /// Row of the sequence where its text starts: 0, if it holds one text. `row + pos` is at most the sequence's length; behind a piece of the same sequence it is where that one ends.
    pub row: u32,
}

/// The head of the table of tokens. Behind it lie, without gaps, `n_tokens` tokens, by id; `n_merges` merges, by `left`, then `right`; `n_words` ids (u32) of the tokens that encoding may give, by their bytes as `memcmp` orders them, a shorter one before those that it begins; then `text_bytes` bytes of all tokens. To encode: cut the text into words as `split` says; begin with the token of each byte; merge the leftmost pair of the least `rank` until none is left.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tokens {
    /// Bytes of the whole table, this head included.
    pub bytes: u64,
    /// Tokens: the model's vocabulary, or 0 if the model has no tokenizer.
    pub n_tokens: u32,
    /// Pairs of tokens that become one.
    pub n_merges: u32,
    /// Tokens that encoding may give; those of single bytes are all there.
    pub n_words: u32,
    /// Bytes of all tokens.
    pub text_bytes: u32,
    /// `SPLIT_` constant: how a text is cut into words.
    pub split: u32,
    /// 1: a word that is a token is that token, whatever its merges would give; 0 otherwise.
    pub whole_words: u32,
}

/// One token: where its bytes lie, and what it is.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    /// Where its bytes start, from the start of the bytes of all tokens.
    pub start: u32,
    /// How many.
    pub bytes: u16,
    /// `TOKEN_` constant.
    pub kind: u16,
}

/// Two neighbouring tokens that become one.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Merge {
    /// The first one's id.
    pub left: u32,
    /// The second one's id.
    pub right: u32,
    /// The id of what they become.
    pub merged: u32,
    /// The least is merged first.
    pub rank: u32,
}

/// Meets the other threads of a step; given `ctx`.
///
/// - `ctx`: what the caller gave to step
pub type BarrierFn = unsafe extern "C" fn(ctx: *mut c_void);

/// One forward pass over `n` tokens at positions `pos..pos + n` of sequence `seq`; called by every thread `tid` of `n_threads` with otherwise equal arguments. A `pos` below the sequence's length forgets what lies behind it. A step may start when every thread has returned from the one before. Threads run in the default floating-point environment: round to nearest, subnormals kept.
///
/// - `model`: base address of the packed weights, 64-byte aligned
/// - `state`: a block made by state_init
/// - `tokens`: n token ids
/// - `n`: tokens of this step, at least 1
/// - `pos`: position of the first token
/// - `seq`: the sequence, below the n_seqs of state_init: each has keys and values of its own
/// - `want`: which logits to write
/// - `out`: where the logits go, one row of the vocabulary's size per wanted token; not read if there are none. Of a model that embeds texts: the embeddings of the text up to each wanted token, `out_elems` elements of length 1
/// - `tid`: this thread, below n_threads
/// - `n_threads`: threads that make this call
/// - `barrier`: meets the other threads; with one thread it may return at once
/// - `ctx`: given to barrier
pub type StepFn = unsafe extern "C" fn(
    model: *const u8,
    state: *mut u8,
    tokens: *const u32,
    n: u32,
    pos: u32,
    seq: u32,
    want: u32,
    out: *mut f32,
    tid: u32,
    n_threads: u32,
    barrier: BarrierFn,
    ctx: *mut c_void,
) -> u32;

/// One forward pass over pieces of several texts, at most `max_step_tokens` tokens in all: each gets what a step of its own would give, bit for bit, but the weights are read once for all. Threads call it as they call step. Behind it a sequence ends where its last piece does.
///
/// - `model`: as given to step
/// - `state`: a block made by state_init
/// - `tokens`: the ids of all pieces, one piece after the other
/// - `pieces`: n_pieces pieces, by rising sequence
/// - `n_pieces`: pieces of this step, at least 1
/// - `want`: which rows to write: with WANT_LAST that of the last token of every piece; WANT_TOP_K with one piece only
/// - `out`: where they go, as of step, in the order of the tokens
/// - `tid`: this thread, below n_threads
/// - `n_threads`: threads that make this call
/// - `barrier`: meets the other threads; with one thread it may return at once
/// - `ctx`: given to barrier
pub type BatchFn = unsafe extern "C" fn(
    model: *const u8,
    state: *mut u8,
    tokens: *const u32,
    pieces: *const Piece,
    n_pieces: u32,
    want: u32,
    out: *mut f32,
    tid: u32,
    n_threads: u32,
    barrier: BarrierFn,
    ctx: *mut c_void,
) -> u32;

/// Bytes of the state block for a context length, a number of sequences and a KV type; 0 if they are not possible.
///
/// - `context`: the most tokens of one sequence
/// - `n_seqs`: sequences
/// - `kv_type`: element type of keys and values
pub type StateBytesFn = unsafe extern "C" fn(context: u32, n_seqs: u32, kv_type: u32) -> u64;

/// Makes a zeroed, 64-byte aligned block of `state_bytes` bytes a state; `STATUS_OK` or a reason. Code compiled for several levels of a CPU chooses one here, and the state keeps it: for other features make another state.
///
/// - `state`: the block
/// - `context`: as given to state_bytes
/// - `n_seqs`: as given to state_bytes
/// - `kv_type`: as given to state_bytes
/// - `features`: `FEATURE_` bits of the CPU: code of several levels runs the best that they allow. 0: x86-64 code asks the CPU, other code runs its least level
pub type StateInitFn =
    unsafe extern "C" fn(state: *mut u8, context: u32, n_seqs: u32, kv_type: u32, features: u32) -> u32;

/// Forgets the tokens of `seq` from position `len` on (`len` 0 forgets all).
///
/// - `state`: a block made by state_init
/// - `seq`: the sequence, below the n_seqs of state_init: each has keys and values of its own
/// - `len`: tokens that stay
pub type TruncateFn = unsafe extern "C" fn(state: *mut u8, seq: u32, len: u32) -> u32;

const _: () = assert!(size_of::<Info>() == 192);

impl Info {
    /// Its bytes on every target: little-endian, without padding.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(192);
        bytes.extend(self.abi_version.to_le_bytes());
        bytes.extend(self.features.to_le_bytes());
        bytes.extend(self.vocab.to_le_bytes());
        bytes.extend(self.max_context.to_le_bytes());
        bytes.extend(self.max_step_tokens.to_le_bytes());
        bytes.extend(self.max_top_k.to_le_bytes());
        bytes.extend(self.bos.to_le_bytes());
        bytes.extend(self.n_eos.to_le_bytes());
        bytes.extend(self.eos.iter().flat_map(|v| v.to_le_bytes()));
        bytes.extend(self.weights_bytes.to_le_bytes());
        bytes.extend(self.weights_hash.to_le_bytes());
        bytes.extend(self.tokens_bytes.to_le_bytes());
        bytes.extend(self.name);
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.out_elems.to_le_bytes());
        bytes
    }
}

const _: () = assert!(size_of::<Piece>() == 16);

impl Piece {
    /// Its bytes on every target: little-endian, without padding.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        bytes.extend(self.n.to_le_bytes());
        bytes.extend(self.pos.to_le_bytes());
        bytes.extend(self.seq.to_le_bytes());
        bytes.extend(self.row.to_le_bytes());
        bytes
    }
}

const _: () = assert!(size_of::<Tokens>() == 32);

impl Tokens {
    /// Its bytes on every target: little-endian, without padding.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        bytes.extend(self.bytes.to_le_bytes());
        bytes.extend(self.n_tokens.to_le_bytes());
        bytes.extend(self.n_merges.to_le_bytes());
        bytes.extend(self.n_words.to_le_bytes());
        bytes.extend(self.text_bytes.to_le_bytes());
        bytes.extend(self.split.to_le_bytes());
        bytes.extend(self.whole_words.to_le_bytes());
        bytes
    }
}

const _: () = assert!(size_of::<Token>() == 8);

impl Token {
    /// Its bytes on every target: little-endian, without padding.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8);
        bytes.extend(self.start.to_le_bytes());
        bytes.extend(self.bytes.to_le_bytes());
        bytes.extend(self.kind.to_le_bytes());
        bytes
    }
}

const _: () = assert!(size_of::<Merge>() == 16);

impl Merge {
    /// Its bytes on every target: little-endian, without padding.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        bytes.extend(self.left.to_le_bytes());
        bytes.extend(self.right.to_le_bytes());
        bytes.extend(self.merged.to_le_bytes());
        bytes.extend(self.rank.to_le_bytes());
        bytes
    }
}
