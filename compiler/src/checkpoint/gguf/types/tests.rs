//! Every encoding against golden bytes, and encoders against decoders.
//!
//! The ternary vectors hold the weights `w[j]` of a linear congruential sequence; those of TQ1_0, TQ2_0 and Q2_0 were confirmed
//! with the formats' reference implementations. Dense blocks, and further ones of TQ1_0 and TQ2_0, are in
//! `dense_blocks.safetensors` with their weights: `dense_blocks.py` wrote it with the `gguf` package.
#![expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests")]

use half::f16;

use super::super::encoding::Undecoded;
use super::ternary::Matrix;
use super::*;
use crate::checkpoint::{Error, StoredType, Tensor, dense as any_dense};

/// `w[j]` in -1..=1 of the published vectors: s = 1, s = 1664525 s + 1013904223, w = (s >> 16) mod 3 - 1.
fn numbers() -> impl Iterator<Item = u32> {
    let mut s = 1u32;
    std::iter::repeat_with(move || {
        s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        s >> 16
    })
}

/// Their codes, w + 1.
fn golden_codes(n: usize) -> Vec<u8> {
    numbers().take(n).map(|u| (u % 3) as u8).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal")).collect()
}

fn with_matrix<T>(
    encoding: Encoding,
    shape: [usize; 2],
    bytes: &[u8],
    body: impl FnOnce(Result<Matrix<'_>, Error>) -> T,
) -> T {
    let stored = StoredType::Block(encoding);
    let tensor = Tensor { name: "w", stored, shape: &shape, file: "m.gguf", offset_bytes: 100, bytes };
    body(Matrix::new(tensor, shape, RowOrder::AsIs))
}

/// The codes of all rows, and the scales; one row at a time gives the same.
fn decode(encoding: Encoding, shape: [usize; 2], bytes: &[u8]) -> Result<(Vec<u8>, Scales), Error> {
    with_matrix(encoding, shape, bytes, |matrix| {
        let matrix = matrix?;
        let [n, k] = shape;
        let mut all = vec![9; n * k];
        matrix.codes(0..n, &mut all)?;
        for row in 0..n {
            let mut one = vec![9; k];
            matrix.codes(row..row + 1, &mut one)?;
            assert_eq!(one, all[row * k..(row + 1) * k], "{encoding} row {row}");
        }
        Ok((all, matrix.scales(0..matrix.rows())?))
    })
}

#[track_caller]
fn check(encoding: Encoding, n: usize, bytes: &[u8]) {
    let (codes, scales) = decode(encoding, [1, n], bytes).expect("the vector is valid");
    assert_eq!(codes, golden_codes(n), "{encoding}");
    assert_eq!(scales, Scales::Tensor(1.0), "{encoding}");
}

#[test]
fn the_sequence_is_the_published_one() {
    let first =
        [0, 1, 0, 0, -1, -1, 1, -1, -1, 0, -1, 1, 1, -1, -1, 1, 0, 1, 1, 1, -1, 0, -1, -1, 1, -1, 0, -1, -1, 1, 0, 0];
    assert_eq!(golden_codes(32), first.map(|w: i8| (w + 1) as u8));
}

#[test]
fn tq1_0() {
    let block =
        "7bc2a86f3547ec3f51580ed1c8500ef7a1caf2b82c9d1b3ecc0b663d47bf645ef69410448832c16862ec922f4b51503230d72a7f003c";
    check(Encoding::Tq1_0, 256, &bytes(block));
    let codes: [u8; 256] = golden_codes(256).try_into().expect("256");
    assert_eq!(tq1_0::encode(&codes, f16::ONE).to_vec(), bytes(block));
}

#[test]
fn tq2_0() {
    let block = "8562a9a164588a48680150160668502a99065a525459a04846109148582251819a85105026a12a96158a0590906021a02a9a2148564651619169586429995946003c";
    check(Encoding::Tq2_0, 256, &bytes(block));
    let codes: [u8; 256] = golden_codes(256).try_into().expect("256");
    assert_eq!(tq2_0::encode(&codes, f16::ONE).to_vec(), bytes(block));
}

#[test]
fn q2_0_and_its_relatives() {
    let block = "003c59208482a904125821a9428926898102";
    check(Encoding::Q2_0, 64, &bytes(block));
    let codes: [u8; 64] = golden_codes(64).try_into().expect("64");
    assert_eq!(q2_0::encode(&codes, f16::ONE).to_vec(), bytes(block));
    let wide = bytes("003c59208482a904125821a9428926898102a806529851251419a665111452656191");
    check(Encoding::Pq2_0, 128, &wide);
    let codes: [u8; 128] = golden_codes(128).try_into().expect("128");
    assert_eq!(q2_0::encode_pq(&codes, f16::ONE).to_vec(), wide);
    let scale_last = [&wide[2..], &wide[..2]].concat();
    check(Encoding::Tq2_0G128, 128, &scale_last);
}

#[test]
fn q4_0_as_gguf_py_rounds() {
    // Weights from the generator of the golden codes, of several sizes; ties of the largest magnitude last. gguf 0.19.0.
    let mut state: u32 = 1;
    for (size, want) in [
        (1.0, "bc2be456b89b31161d5920ba94674acef43f"),
        (0.013, "95927b20baf719c032f5a1f0aeea359de86d"),
        (3.0, "f8b163717fff907319ba45c11418999ea2f4"),
        (1e-6, "01009bfc8758fdc5a076ab21f5d3043c980a"),
        (250.0, "824b99280797e01b0ffc385d557acf554d19"),
    ] {
        let weights = std::array::from_fn(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 16) as f32 - 32_768.0) / 65_536.0 * size
        });
        assert_eq!(q4_0::encode(&weights).expect("within f16").to_vec(), bytes(want), "{size}");
        let mut back = [0.0; 32];
        blocks_of_32::q4_0(&bytes(want), &mut back);
        let (scale, codes) = q4_0::codes(&weights).expect("within f16");
        assert_eq!(back, codes.map(|q| (f32::from(q) - 8.0) * scale.to_f32()), "{size}");
    }
    let mut weights = [0.0; 32];
    (weights[3], weights[9], weights[20]) = (0.5, -0.5, 0.03125);
    assert_eq!(q4_0::encode(&weights).expect("within f16").to_vec(), bytes("00ac8888888088888888888f888888888888"));
    for (weight, want) in [(0.0, Some(0x88)), (1e-44, Some(0x88)), (f32::MAX, None)] {
        let block = q4_0::encode(&[weight; 32]);
        assert_eq!(block.map(|block| block[17]), want, "{weight}");
    }
}

#[test]
fn ptq1_0() {
    check(Encoding::Ptq1_0, 128, &bytes("82e9aa910f37be1a52561ebcbb4e1edd6e26896a7d9ce00b9b23003c"));
}

#[test]
fn i2_s() {
    let packed = bytes("52896a4a1925a22129400594902905a86690a58515650a219104462125884542");
    let scale = [&1.0f32.to_le_bytes()[..], &[0; 28]].concat();
    check(Encoding::I2S, 128, &[packed.clone(), scale].concat());
    check(Encoding::I2SBare, 128, &packed);
    // Blocks run over the ends of rows.
    let (codes, _) = decode(Encoding::I2SBare, [4, 32], &packed).expect("valid");
    assert_eq!(codes, golden_codes(128));
}

#[test]
fn iq_bn() {
    let one = bytes("2e5c1a543a906a55466e321a19");
    check(Encoding::Iq1Bn, 64, &[&f16::ONE.to_le_bytes()[..], &one].concat());
    let two = bytes("954aa90950a422a06801049292280426");
    check(Encoding::Iq2Bn, 64, &[&1.0f32.to_le_bytes()[..], &two].concat());
    // Another scale per row.
    let rows = [&0.5f32.to_le_bytes()[..], &two, &0.25f32.to_le_bytes()[..], &two].concat();
    let (codes, scales) = decode(Encoding::Iq2Bn, [2, 64], &rows).expect("valid");
    assert_eq!((codes, scales), (golden_codes(64).repeat(2), Scales::Rows(vec![0.5, 0.25])));
}

#[test]
fn iq2_bn_in_fours() {
    // Packed as the description says: rows of 128 columns, each shifted by one.
    let codes = golden_codes(131);
    let row = |k: usize| &codes[k..k + 128];
    let mut packed: Vec<u8> = (0..4).flat_map(|_| 2.0f32.to_le_bytes()).collect();
    for block in 0..2 {
        for l in 0..4 {
            for k in 0..4 {
                for i in 0..4 {
                    let lane = |p: usize| row(k)[64 * block + 16 * l + i + 4 * p] << (2 * p);
                    packed.push(lane(0) | lane(1) | lane(2) | lane(3));
                }
            }
        }
    }
    let (found, scales) = decode(Encoding::Iq2BnR4, [4, 128], &packed).expect("valid");
    assert_eq!(found, (0..4).flat_map(row).copied().collect::<Vec<u8>>());
    assert_eq!(scales, Scales::Tensor(2.0));
}

#[test]
fn stq1_0() {
    let block = bytes("11fb21ba43056f159d7f8ebd8fa3e2695a197ebf754e83133073265dd091b149e470dadc0876150d003c");
    let u: Vec<u32> = numbers().take(64 + 256).collect();
    let mut expected = vec![1; 256];
    for g in 0..64 {
        for p in 0..4 {
            let negative = u[64 + 4 * g + p] % 2 == 1;
            let code = if p as u32 == u[g] & 3 { 1 } else { 2 * u8::from(!negative) };
            expected[64 * (g / 16) + g % 16 + 16 * p] = code;
        }
    }
    let (codes, scales) = decode(Encoding::Stq1_0, [1, 256], &block).expect("valid");
    assert_eq!((codes, scales), (expected, Scales::Tensor(1.0)));
}

#[test]
fn q1_0() {
    let mut block = f16::from_f32(0.5).to_le_bytes().to_vec();
    block.extend([0b0000_0101; 16]);
    let (codes, scales) = decode(Encoding::Q1_0, [1, 128], &block).expect("valid");
    assert_eq!((codes, scales), ([2, 0, 2, 0, 0, 0, 0, 0].repeat(16), Scales::Tensor(0.5)));
}

#[test]
fn what_is_encoded_comes_back() {
    let codes = golden_codes(256 * 5);
    let half = f16::from_f32(0.037);
    let (mut one, mut two, mut three) = (Vec::new(), Vec::new(), Vec::new());
    for block in codes.as_chunks::<256>().0 {
        one.extend(tq1_0::encode(block, half));
        two.extend(tq2_0::encode(block, half));
    }
    codes.as_chunks::<64>().0.iter().for_each(|block| three.extend(q2_0::encode(block, half)));
    for (encoding, packed) in [(Encoding::Tq1_0, one), (Encoding::Tq2_0, two), (Encoding::Q2_0, three)] {
        let (found, scales) = decode(encoding, [5, 256], &packed).expect("valid");
        assert_eq!((found, scales), (codes.clone(), Scales::Tensor(half.to_f32())), "{encoding}");
    }
}

#[test]
fn scales_are_as_few_as_possible() {
    let zeros = [1; 64];
    let ones = [2; 64];
    let block = |codes: &[u8; 64], scale: f32| q2_0::encode(codes, f16::from_f32(scale));
    let scales = |blocks: &[[u8; 18]]| decode(Encoding::Q2_0, [2, 128], &blocks.concat()).expect("valid").1;
    let one = [block(&zeros, 0.5), block(&ones, 2.0), block(&ones, 2.0), block(&zeros, 0.0)];
    assert_eq!(scales(&one), Scales::Tensor(2.0), "blocks of zeros agree with any scale");
    let rows = [block(&zeros, 0.5), block(&ones, 2.0), block(&ones, 3.0), block(&ones, 3.0)];
    assert_eq!(scales(&rows), Scales::Rows(vec![2.0, 3.0]));
    let groups = [block(&ones, 1.0), block(&ones, 2.0), block(&zeros, 3.0), block(&ones, 4.0)];
    assert_eq!(scales(&groups), Scales::Groups { cols: 64, scales: vec![1.0, 2.0, 1.0, 4.0] });
    // Without a code for zero, a scale of zero makes zeros of all signs.
    let zeros = [&[0; 2][..], &[0xff; 16]].concat();
    let (codes, scale) = decode(Encoding::Q1_0, [1, 128], &zeros).expect("valid");
    assert_eq!((codes, scale), (vec![1; 128], Scales::Tensor(1.0)));
}

#[test]
fn damage_is_refused_with_its_place() {
    let refused = |encoding, shape, bytes: &[u8]| decode(encoding, shape, bytes).expect_err("damaged").to_string();
    let three = q2_0::encode(&[3; 64], f16::ONE);
    let text = refused(Encoding::Q2_0, [1, 64], &three);
    assert!(text.contains("tensor \"w\", byte 100: found code 3") && text.contains("twice the scale"), "{text}");
    let text = refused(Encoding::I2SBare, [2, 128], &[vec![0; 32], vec![0xff; 32]].concat());
    assert!(text.contains("byte 132: found code 3"), "{text}");
    for scale in [f16::NAN, f16::INFINITY, f16::from_f32(-1.0)] {
        let text = refused(Encoding::Tq2_0, [1, 256], &tq2_0::encode(&[1; 256], scale));
        assert!(text.contains("byte 100: found a scale of"), "{text}");
    }
    // A hole of zero bytes.
    for (encoding, shape, bytes) in [
        (Encoding::Q2_0, [1, 64], 18),
        (Encoding::Q1_0, [1, 128], 18),
        (Encoding::Tq1_0, [1, 256], 54),
        (Encoding::I2S, [1, 128], 64),
    ] {
        let text = refused(encoding, shape, &vec![0; bytes]);
        assert!(text.contains("a scale of 0 in a block of") && text.contains("fetch them again"), "{text}");
    }
    let tail = [&f32::NAN.to_le_bytes()[..], &[0; 28]].concat();
    assert!(refused(Encoding::I2S, [1, 128], &[vec![0; 32], tail].concat()).contains("byte 132: found a scale of NaN"));
    assert!(refused(Encoding::Tq2_0, [1, 512], &tq2_0::encode(&[1; 256], f16::ONE)).contains("expected shape"));
    assert!(refused(Encoding::Q4_0, [1, 32], &[0; 18]).contains("ternary"));
}

#[test]
fn rows_come_back_in_the_order_of_the_model() {
    let block = |code: u8| q2_0::encode(&[code; 64], f16::ONE);
    // A head of four rows, the file has 0, 2, 1, 3 of the model.
    let packed = [block(0), block(1), block(2), block(0)].concat();
    let (stored, shape) = (StoredType::Block(Encoding::Q2_0), [4, 64]);
    let tensor = Tensor { name: "q", stored, shape: &shape, file: "m", offset_bytes: 0, bytes: &packed };
    let matrix = Matrix::new(tensor, shape, RowOrder::Pairs { head_dim: 4 }).expect("valid");
    let mut codes = vec![9; 4 * 64];
    matrix.codes(0..4, &mut codes).expect("valid");
    let firsts: Vec<u8> = codes.chunks(64).map(|row| row[0]).collect();
    assert_eq!(firsts, [0, 2, 1, 0]);
}

/// Checks `encoding` against weights that the reference implementation decoded.
fn check_dense(encoding: Encoding, name: &str) {
    let file = include_bytes!("dense_blocks.safetensors");
    let file = safetensors::SafeTensors::deserialize(file).expect("a fixture");
    let packed = file.tensor(&format!("{name}.bytes")).expect("a fixture").data().to_vec();
    let wanted = file.tensor(&format!("{name}.weights")).expect("a fixture").data().to_vec();
    let wanted: Vec<f32> = wanted.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let shape = [wanted.len() / 512, 512];
    let stored = StoredType::Block(encoding);
    let tensor = Tensor { name, stored, shape: &shape, file: "m", offset_bytes: 0, bytes: &packed };
    let found = any_dense::widen(&tensor).expect("valid");
    for (at, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
        assert_eq!(found.to_bits(), wanted.to_bits(), "{name}[{at}]: {found} {wanted}");
    }
    assert_eq!(found.len(), wanted.len());
    // From the middle of a block to the middle of another.
    assert_eq!(any_dense::widen_range(&tensor, 37..600).expect("valid"), found[37..600]);
    let mut rows = vec![0; 2 * 2056];
    any_dense::copy_rows(&tensor, shape, 1..3, 2056, &mut rows).expect("valid");
    assert_eq!(rows[2056..2060], found[1024].to_le_bytes());
}

#[test]
fn dense_blocks_are_those_of_the_reference() {
    check_dense(Encoding::Q4_0, "Q4_0");
    check_dense(Encoding::Q4_1, "Q4_1");
    check_dense(Encoding::Q8_0, "Q8_0");
    check_dense(Encoding::Q4K, "Q4_K");
    check_dense(Encoding::Q5K, "Q5_K");
    check_dense(Encoding::Q6K, "Q6_K");
    check_dense(Encoding::Q5_0, "Q5_0");
    check_dense(Encoding::Q5_1, "Q5_1");
    check_dense(Encoding::Iq4Nl, "IQ4_NL");
    check_dense(Encoding::Q2K, "Q2_K");
    check_dense(Encoding::Q3K, "Q3_K");
    assert!(Encoding::DENSE.iter().all(|encoding| dense_block(*encoding).is_some() && !encoding.is_ternary()));
    // Ternary encodings are read as dense weights too; code 3 is twice the scale there.
    check_dense(Encoding::Tq1_0, "TQ1_0");
    check_dense(Encoding::Tq2_0, "TQ2_0");
    let block = q2_0::encode(&[3; 64], f16::from_f32(0.5));
    let stored = StoredType::Block(Encoding::Q2_0);
    let tensor = Tensor { name: "e", stored, shape: &[1, 64], file: "m", offset_bytes: 0, bytes: &block };
    assert_eq!(any_dense::widen(&tensor).expect("valid"), [1.0; 64]);
}

#[test]
fn dense_blocks_that_are_no_numbers_are_refused() {
    let mut block = vec![1; 34];
    block[..2].copy_from_slice(&f16::INFINITY.to_le_bytes());
    let stored = StoredType::Block(Encoding::Q8_0);
    let tensor = Tensor { name: "e", stored, shape: &[1, 32], file: "m", offset_bytes: 7, bytes: &block };
    assert!(any_dense::widen(&tensor).expect_err("infinite").to_string().contains("byte 7: found an infinity"));
    let other = Encoding::Undecoded(Undecoded { name: "Q2_K", block_elems: 32, block_bytes: 34, head_bytes: 0 });
    let tensor = Tensor { stored: StoredType::Block(other), ..tensor };
    let error = any_dense::widen(&tensor).expect_err("not decoded");
    assert!(matches!(error, Error::Unsupported(_)) && error.to_string().contains("Q2_K"), "{error}");
}
