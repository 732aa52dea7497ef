//! Programs are their matrices, whatever these hold, and no pass makes them worse.

use super::tape::{LEAST_TEMPS, Op, Operand, Place};
use super::*;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Non-zero with a chance of `percent` in a hundred.
    fn trits(&mut self, rows: usize, cols: usize, percent: u64) -> Trits {
        let mut trit = || if self.bits() % 100 < percent { (self.bits() % 2) as i8 * 2 - 1 } else { 0 };
        Trits { rows, cols, data: (0..rows * cols).map(|_| trit()).collect() }
    }
}

/// The program of some matrix, for those who may not see one.
pub(crate) fn sample(rows: u32, cols: u32, registers: u32) -> Program {
    let trits = Random(7).trits(rows as usize, cols as usize, 67);
    synthesise(&trits, &Limits::new(registers)).expect("a program").0
}

fn of(rows: &[&[i8]]) -> Trits {
    Trits { rows: rows.len(), cols: rows[0].len(), data: rows.concat() }
}

/// What the tape leaves in every row's accumulator, in the arithmetic of a kernel: i16 that wraps.
fn run(block: &Block, inputs: &[i8]) -> Vec<i16> {
    let mut temps = vec![None::<i16>; block.tape().temps()];
    let mut slots = vec![None::<i16>; block.tape().slots() as usize];
    let mut rows = vec![None::<i16>; block.sums().len()];
    let signed = |acc: i16, v: i16, minus: bool| if minus { acc.wrapping_sub(v) } else { acc.wrapping_add(v) };
    for op in block.tape().ops() {
        let memory = |place: Place, slots: &[Option<i16>]| match place {
            Place::Input(i) => i16::from(inputs[i as usize]),
            Place::Slot(i) => slots[i as usize].expect("a slot that was written"),
        };
        let value = |operand: Operand, temps: &[Option<i16>], slots: &[Option<i16>]| match operand {
            Operand::Temp(temp) => temps[temp].expect("a register that holds something"),
            Operand::Memory(place) => memory(place, slots),
        };
        match *op {
            Op::Load { to, from } => temps[to] = Some(memory(from, &slots)),
            Op::Combine { to, a, minus, b } => {
                let (a, b) = (temps[a].expect("a first term"), value(b, &temps, &slots));
                temps[to] = Some(signed(a, b, minus));
            }
            Op::Keep { from, slot } => slots[slot as usize] = temps[from],
            Op::Add { row, first, minus, operand } => {
                let acc = &mut rows[row as usize];
                assert_eq!(first, acc.is_none());
                *acc = Some(signed(acc.unwrap_or(0), value(operand, &temps, &slots), minus));
            }
        }
    }
    rows.into_iter().map(|row| row.unwrap_or(0)).collect()
}

fn check(trits: &Trits, limits: &Limits, random: &mut Random) -> (Program, Report) {
    let (program, report) = synthesise(trits, limits).expect("a program");
    assert_eq!(synthesise(trits, limits).expect("again"), (program.clone(), report), "the same every time");
    assert!(report.adds_after <= report.adds_before + u64::from(report.outputs) * u64::from(program.chunks() - 1));
    for extreme in [None, Some(-128i8), Some(127)] {
        let inputs: Vec<i8> = (0..trits.cols).map(|_| extreme.unwrap_or(random.bits() as i8)).collect();
        let product = |row: &[i8]| row.iter().zip(&inputs).map(|(t, x)| i32::from(*t) * i32::from(*x)).sum::<i32>();
        let want: Vec<i32> = trits.data.chunks_exact(trits.cols).map(product).collect();
        assert_eq!(program.evaluate(&inputs), want, "{program}");
        let mut found = vec![0i32; trits.rows];
        for block in program.blocks() {
            assert!(block.sums().len() + block.tape().temps() <= limits.registers as usize);
            for (row, sum) in block.rows().zip(run(block, &inputs)) {
                found[row as usize] += i32::from(sum);
            }
        }
        assert_eq!(found, want, "the tape of {program}");
    }
    (program, report)
}

#[test]
fn programs_are_their_matrices() {
    let mut random = Random(1);
    for (rows, cols) in [(1, 1), (1, 40), (40, 1), (3, 5), (16, 16), (27, 64), (28, 65), (60, 33), (5, 900)] {
        for percent in [0, 3, 10, 33, 67, 100] {
            let block_rows = if percent == 33 { 1 } else { 11 };
            for rows_of_block in [block_rows, 27] {
                let trits = random.trits(rows, cols, percent);
                check(&trits, &Limits::new(rows_of_block + LEAST_TEMPS), &mut random);
            }
        }
    }
    for trit in [-1, 0, 1] {
        for (rows, cols) in [(33, 64), (2, 255), (2, 256), (3, 511)] {
            let trits = Trits { rows, cols, data: vec![trit; rows * cols] };
            let (program, _) = check(&trits, &Limits::new(31), &mut random);
            let chunks = if trit == 0 { 1 } else { cols.div_ceil(255) };
            assert_eq!(program.chunks() as usize, chunks);
        }
    }
}

#[test]
fn sharing_lowers_the_number_of_additions() {
    let mut random = Random(2);
    for (rows, cols, percent, most) in [(27, 64, 67, 0.72), (27, 128, 67, 0.72), (27, 128, 33, 0.85)] {
        let trits = random.trits(rows, cols, percent);
        let (_, report) = check(&trits, &Limits::new(31), &mut random);
        let (before, after) = report.adds_per_output();
        assert!(after < most * before, "{rows} x {cols}, {percent} %: {before} before, {after} after");
    }
    // A row that occurs eight times is one sum.
    let row = random.trits(1, 60, 67);
    let again = Trits { rows: 8, cols: 60, data: row.data.repeat(8) };
    let (_, report) = check(&again, &Limits::new(31), &mut random);
    assert_eq!(report.adds_after * 8, report.adds_before);
}

#[test]
fn the_e_graph_finds_what_is_best() {
    let mut random = Random(3);
    for (rows, adds) in [
        (vec![&[1i8, 1][..], &[1, -1]], 2),
        (vec![&[1, 1, 1][..], &[1, 1, 0], &[-1, -1, 1]], 3),
        // One row is the other turned round.
        (vec![&[1, -1, 1][..], &[-1, 1, -1]], 2),
        // The whole and what it lacks: x0 + x1 + x2 - x2 again.
        (vec![&[1, 1, 0, 0][..], &[1, 1, 1, 1], &[0, 0, 1, 1]], 3),
        (vec![&[0, 0][..], &[0, 1]], 0),
        (vec![&[0, -1, 0][..]], 0),
    ] {
        let (program, _) = check(&of(&rows), &Limits::new(12), &mut random);
        assert_eq!(program.adds(), adds, "{program}");
    }
}

#[test]
fn the_e_graph_is_never_worse_and_sometimes_better() {
    let mut random = Random(4);
    let without = Limits { egraph_trits: 0, ..Limits::new(12) };
    let mut won = 0;
    for i in 0..60 {
        let (rows, cols) = [(4, 4), (4, 5), (5, 3)][i % 3];
        let trits = random.trits(rows, cols, 85);
        let (_, saturated) = check(&trits, &Limits::new(12), &mut random);
        let (_, greedy) = check(&trits, &without, &mut random);
        assert!(saturated.adds_after <= greedy.adds_after && greedy.e_nodes == 0);
        assert_eq!(saturated.egraph_won > 0, saturated.adds_after < greedy.adds_after);
        won += saturated.egraph_won;
    }
    // Greedily eight additions: x0 - x1 (or what is as frequent) is the wrong pair to begin with.
    let hard = of(&[&[0, -1, 1, 1], &[1, 0, 0, -1], &[1, -1, 1, -1], &[-1, 1, 0, -1]]);
    let adds = |limits: &Limits| synthesise(&hard, limits).expect("a program").1.adds_after;
    assert!(adds(&Limits::new(12)) < adds(&without));
    assert!(won > 0, "there are matrices on which the most frequent pair is the wrong one");
}

#[test]
fn a_program_of_another_matrix_is_noticed() {
    let mut random = Random(5);
    let trits = random.trits(9, 20, 67);
    let (program, _) = synthesise(&trits, &Limits::new(31)).expect("a program");
    for at in [0, 77, 179] {
        let mut other = trits.clone();
        other.data[at] = if other.data[at] == 0 { 1 } else { 0 };
        assert!(program.computes(&trits) && !program.computes(&other));
    }
}

#[test]
fn what_is_no_small_matrix_is_refused() {
    let refused =
        |rows, cols, data: Vec<i8>| synthesise(&Trits { rows, cols, data }, &Limits::new(31)).expect_err("no");
    assert!(matches!(refused(0, 4, vec![]), Error::TooLarge { .. }));
    assert!(matches!(refused(1, MOST_COLS + 1, vec![0; MOST_COLS + 1]), Error::TooLarge { .. }));
    assert!(matches!(refused(usize::MAX, 2, vec![]), Error::TooLarge { .. }));
    let mut random = Random(6);
    let long = random.trits(1, MOST_COLS, 100);
    let some = |rows: usize| Trits { rows, cols: MOST_COLS, data: long.data.repeat(rows) };
    assert!(synthesise(&some(16), &Limits::new(31)).is_ok(), "rows that repeat are short");
    let dense = random.trits(256, 256, 100);
    let unshared = Limits { least_uses: 1000, ..Limits::new(31) };
    assert!(matches!(synthesise(&dense, &unshared), Err(Error::TooLong { .. })));
    assert!(matches!(refused(2, 2, vec![1; 3]), Error::Input(_)));
    assert!(matches!(refused(2, 2, vec![1, 0, 2, 0]), Error::Input(_)));
}
