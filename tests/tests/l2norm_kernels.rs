//! The kernels that bring rows to length one, at every level, against [`arith::l2norm`].

#![expect(unsafe_code, reason = "kernels are called through their argument structs")]

use tern_compiler::graph::arith;
use tern_compiler::schedule::kernel::KernelKind;
use tern_tests::call::{Arg, Kernel};
use tern_tests::rng::Rng;
use tern_tests::rows::{Rows, bits, name, random_rows, targets_with_foreign};

#[test]
fn rows_of_length_one() {
    let mut rng = Rng::new(15);
    for target in targets_with_foreign() {
        for cols in [1, 16, 33, 640] {
            let mut x = random_rows(&mut rng, 3, cols, 3.0);
            // A row without a length, and one whose squares are none.
            x[1].fill(0.0);
            x[2].iter_mut().for_each(|x| *x *= 1e-30);
            let (input, mut out) = (Rows::of(&x), Rows::garbage(3, cols));
            let mut args = [input.read(), out.write(), Arg::Value(0), Arg::Value(3)];
            // SAFETY: the struct that the kind documents, with buffers of the sizes it implies.
            unsafe { Kernel::compile(&KernelKind::L2Norm { cols: cols as u32 }, &target).call(&mut args) };
            let want: Vec<Vec<f32>> = x
                .iter()
                .map(|x| {
                    let mut y = vec![0.0; cols];
                    arith::l2norm(target.profile, x, &mut y);
                    y
                })
                .collect();
            out.expect(&bits(&want), &name(&target, &format!("l2norm {cols}")));
        }
    }
}
