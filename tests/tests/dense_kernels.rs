//! Products with dense rows: both emitters at every level, against `graph::arith`, bit for bit.

#![expect(unsafe_code, reason = "kernels are called through their argument structs")]

use tern_compiler::codegen::Target;
use tern_compiler::graph::{DenseType, arith};
use tern_compiler::schedule::dense::{DenseMatrix, pack_quads};
use tern_compiler::schedule::kernel::{DenseOrder, KernelKind};
use tern_tests::call::{Arg, Kernel};
use tern_tests::rng::Rng;
use tern_tests::rows::{CANARY, Rows, bits, dense_rows, name, random_rows, targets_with_foreign};

fn run(target: &Target, kind: KernelKind, args: &mut [Arg<'_>]) {
    // SAFETY: the struct is that which the kind documents, with buffers of the sizes it implies.
    unsafe { Kernel::compile(&kind, target).call(args) };
}

#[test]
fn dense_products_of_tiles_of_tokens() {
    let mut rng = Rng::new(16);
    for target in targets_with_foreign() {
        for dtype in [DenseType::F32, DenseType::F16, DenseType::Bf16] {
            for (rows, cols, tokens) in
                [(1, 1, 1), (3, 16, 7), (16, 17, 6), (19, 48, 13), (33, 130, 5), (48, 64, 31), (5, 11_000, 8)]
            {
                let (stored, values) = dense_rows(&mut rng, dtype, rows, cols);
                let x = random_rows(&mut rng, tokens, cols, 2.0);
                let x_rows = Rows::of(&x);
                let want: Vec<Vec<f32>> =
                    x.iter().map(|x| values.iter().map(|w| arith::dot(target.profile, x, w)).collect()).collect();
                let (n, k) = (rows as u32, cols as u32);
                let what = name(&target, &format!("{dtype:?} {rows}x{cols}, {tokens} tokens"));

                // Interleaved: whole tiles, whose missing rows give zeros; the second tile by itself.
                let order = DenseOrder::Quads;
                let matrix = DenseMatrix { dtype, cols: k, order };
                let tile_bytes = matrix.unit_bytes() as usize;
                let mut tiles = vec![0u8; order.units(n) as usize * tile_bytes];
                let of_tile = 16 * matrix.row_bytes() as usize;
                for (rows, tile) in stored.chunks(of_tile).zip(tiles.chunks_exact_mut(tile_bytes)) {
                    pack_quads(&matrix, rows, tile);
                }
                let mut out = Rows::garbage(tokens, rows);
                let kind =
                    KernelKind::Dense { dtype, rows: n, cols: k, order, out_row_bytes: 4 * n.next_multiple_of(16) };
                let cut = u64::from(order.units(n) / 2);
                for [lo, hi] in [[0, cut], [cut, u64::from(order.units(n))]] {
                    let [count, lo, hi] = [tokens as u64, lo, hi].map(Arg::Value);
                    let mut args = [Arg::from(&tiles[..]), x_rows.read(), out.write(), count, lo, hi];
                    run(&target, kind, &mut args);
                }
                out.expect(&bits(&want), &what);

                // Row after row: from any row to any row, and nothing else is written.
                let mut logits = vec![CANARY; tokens * rows + 1];
                let order = DenseOrder::Rows;
                let kind = KernelKind::Dense { dtype, rows: n, cols: k, order, out_row_bytes: 4 * n };
                let cut = rows / 3;
                for [lo, hi] in [[0, cut], [cut, rows]] {
                    let [count, lo, hi] = [tokens, lo, hi].map(|v| Arg::Value(v as u64));
                    let mut args = [Arg::from(&stored[..]), x_rows.read(), Arg::from(&mut logits[..]), count, lo, hi];
                    run(&target, kind, &mut args);
                }
                assert_eq!(logits.pop(), Some(CANARY), "{what}");
                assert_eq!(logits, bits(&want).concat(), "{what}");
            }
        }
    }
}
