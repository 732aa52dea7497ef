//! A block's sums in the order in which a CPU computes them.
//!
//! In: shared sums and the sums of rows. Out: operations on one accumulator per row and some other registers. Whoever
//! has the registers writes one instruction per operation. All rows' sums grow at once: a value is loaded or formed in a
//! register, added to the rows in which it stands, and forgotten, unless a shared sum wants it soon. So additions of
//! neighbours do not wait for each other and few operands come from memory: a CPU adds two registers faster than it
//! loads.

use super::program::{Sum, Term};

/// The least registers for values, besides the accumulators: two terms, what they come to, and one that waits.
pub const LEAST_TEMPS: u32 = 4;

/// Where a value lies in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Place {
    /// An input.
    Input(u32),
    /// A slot for shared sums.
    Slot(u32),
}

/// What is added.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operand {
    /// What a register holds.
    Temp(usize),
    /// What lies in memory.
    Memory(Place),
}

/// One operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// Temp `to` = memory.
    Load {
        /// Which register.
        to: usize,
        /// What.
        from: Place,
    },
    /// Temp `to` = temp `a` plus or minus `b`; `to` may be `a`.
    Combine {
        /// Which register.
        to: usize,
        /// The first term.
        a: usize,
        /// Whether `b` is subtracted.
        minus: bool,
        /// The second term.
        b: Operand,
    },
    /// Memory = temp `from`.
    Keep {
        /// Which register.
        from: usize,
        /// Which slot.
        slot: u32,
    },
    /// The accumulator of `row` plus or minus an operand.
    Add {
        /// The row, from the block's first.
        row: u32,
        /// Whether it holds nothing yet.
        first: bool,
        /// Whether the operand is subtracted.
        minus: bool,
        /// What is added.
        operand: Operand,
    },
}

/// The operations of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tape {
    ops: Vec<Op>,
    temps: usize,
    slots: u32,
}

impl Tape {
    /// The operations for `sums` over `inputs` inputs and then `shared`, both in normal form, on `temps` registers for
    /// values.
    pub(super) fn new(inputs: u32, shared: &[Sum], sums: &[Sum], temps: u32) -> Self {
        let mut writer = Writer::new(inputs, shared, sums, temps.max(LEAST_TEMPS) as usize);
        let mut left: Vec<usize> = (0..shared.len()).collect();
        while let Some(at) = writer.next(&left) {
            let i = left.remove(at);
            writer.combine(i);
        }
        for input in 0..inputs {
            writer.retire_input(input);
        }
        Self { ops: writer.ops, temps: writer.temps.len(), slots: writer.slots }
    }

    /// In order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Registers for values.
    pub fn temps(&self) -> usize {
        self.temps
    }

    /// Slots that it needs.
    pub fn slots(&self) -> u32 {
        self.slots
    }
}

struct Writer<'a> {
    inputs: u32,
    shared: &'a [Sum],
    /// Rows that still want a value, with its sign there.
    rows: Vec<Vec<(u32, bool)>>,
    /// Shared sums that still want a value.
    wanted: Vec<u32>,
    /// Whether a shared sum is done; inputs are.
    is_done: Vec<bool>,
    /// Which value a register holds, and when it was last used.
    temps: Vec<Option<(u32, usize)>>,
    /// The slot of a value.
    slot_of: Vec<Option<u32>>,
    free_slots: Vec<u32>,
    slots: u32,
    begun: Vec<bool>,
    ops: Vec<Op>,
}

impl<'a> Writer<'a> {
    fn new(inputs: u32, shared: &'a [Sum], sums: &[Sum], temps: usize) -> Self {
        let n = inputs as usize + shared.len();
        let (mut rows, mut wanted) = (vec![Vec::new(); n], vec![0; n]);
        for (row, sum) in sums.iter().enumerate() {
            sum.iter().for_each(|term| rows[term.value as usize].push((row as u32, term.minus)));
        }
        shared.iter().flatten().for_each(|term| wanted[term.value as usize] += 1);
        Self {
            inputs,
            shared,
            rows,
            wanted,
            is_done: (0..n).map(|value| value < inputs as usize).collect(),
            temps: vec![None; temps],
            slot_of: vec![None; n],
            free_slots: Vec::new(),
            slots: 0,
            begun: vec![false; sums.len()],
            ops: Vec::new(),
        }
    }

    /// Which of the shared sums that are left is formed next: of those that can be, the one that finds most of its terms
    /// in registers, of equals the first.
    fn next(&self, left: &[usize]) -> Option<usize> {
        let mut best: Option<(usize, usize)> = None;
        for (at, i) in left.iter().enumerate() {
            let sum = &self.shared[*i];
            if sum.iter().all(|term| self.is_done[term.value as usize]) {
                let here = sum.iter().filter(|term| self.temp_of(term.value).is_some()).count();
                if best.is_none_or(|(most, _)| here > most) {
                    best = Some((here, at));
                }
            }
        }
        best.map(|(_, at)| at)
    }

    fn temp_of(&self, value: u32) -> Option<usize> {
        self.temps.iter().position(|held| held.is_some_and(|(held, _)| held == value))
    }

    /// A register for a value, none of `pinned`: an empty one, one whose value nobody wants, or the one least lately used.
    fn claim(&mut self, value: u32, pinned: &[usize]) -> usize {
        let age = |temp: usize| match self.temps[temp] {
            None => (0, 0),
            Some((held, at)) => (1 + usize::from(self.wanted[held as usize] > 0), at),
        };
        let free =
            (0..self.temps.len()).filter(|temp| !pinned.contains(temp)).min_by_key(|temp| age(*temp)).unwrap_or(0);
        if let Some((held, _)) = self.temps[free] {
            let lost = held >= self.inputs && self.wanted[held as usize] > 0;
            if lost && self.slot_of[held as usize].is_none() {
                let slot = self.free_slots.pop().unwrap_or_else(|| {
                    self.slots += 1;
                    self.slots - 1
                });
                self.slot_of[held as usize] = Some(slot);
                self.ops.push(Op::Keep { from: free, slot });
            }
        }
        self.temps[free] = Some((value, self.ops.len()));
        free
    }

    /// Where a value lies that no register holds. Shared sums that are wanted were kept when they lost their register.
    fn place(&self, value: u32) -> Place {
        match self.slot_of[value as usize] {
            Some(slot) => Place::Slot(slot),
            None => Place::Input(value),
        }
    }

    /// Adds a register's value to the rows that want it.
    fn retire(&mut self, value: u32, temp: usize) {
        for (row, minus) in std::mem::take(&mut self.rows[value as usize]) {
            self.add(row, minus, Operand::Temp(temp));
        }
    }

    fn add(&mut self, row: u32, minus: bool, operand: Operand) {
        let first = !std::mem::replace(&mut self.begun[row as usize], true);
        self.ops.push(Op::Add { row, first, minus, operand });
    }

    /// A value in a register.
    fn load(&mut self, value: u32, pinned: &[usize]) -> usize {
        if let Some(temp) = self.temp_of(value) {
            self.temps[temp] = Some((value, self.ops.len()));
            return temp;
        }
        let temp = self.claim(value, pinned);
        let from = self.place(value);
        self.ops.push(Op::Load { to: temp, from });
        self.retire(value, temp);
        temp
    }

    /// A value as an operand: from memory where one use does not pay for a register.
    fn operand(&mut self, value: u32, pinned: &[usize]) -> Operand {
        let pays = self.rows[value as usize].len() > 1;
        if pays || self.temp_of(value).is_some() {
            Operand::Temp(self.load(value, pinned))
        } else {
            Operand::Memory(self.place(value))
        }
    }

    /// Forms a shared sum and adds it to its rows.
    fn combine(&mut self, i: usize) {
        let mut terms = self.shared[i].clone();
        let value = self.inputs + i as u32;
        // Of the terms that are added, one that is here already.
        let here = |term: &Term| !term.minus && self.temp_of(term.value).is_some();
        let first = terms.iter().position(here).unwrap_or(0);
        terms.swap(0, first);
        let a = self.load(terms[0].value, &[]);
        let b = self.operand(terms[1].value, &[a]);
        let mut pinned = vec![a];
        pinned.extend(if let Operand::Temp(b) = b { Some(b) } else { None });
        let to = self.claim(value, &pinned);
        self.ops.push(Op::Combine { to, a, minus: terms[1].minus, b });
        for term in &terms[2..] {
            let b = self.operand(term.value, &[to]);
            self.ops.push(Op::Combine { to, a: to, minus: term.minus, b });
        }
        // Only now: a slot that is given back may be written at once.
        terms.iter().for_each(|term| self.spend(term.value));
        self.is_done[value as usize] = true;
        self.retire(value, to);
    }

    /// One shared sum less wants the value.
    fn spend(&mut self, value: u32) {
        self.wanted[value as usize] -= 1;
        if self.wanted[value as usize] == 0
            && let Some(slot) = self.slot_of[value as usize]
        {
            self.free_slots.push(slot);
        }
    }

    /// Adds an input to the rows that still want it.
    fn retire_input(&mut self, input: u32) {
        match self.rows[input as usize][..] {
            [] => {}
            [(row, minus)] => {
                self.rows[input as usize].clear();
                self.add(row, minus, Operand::Memory(Place::Input(input)));
            }
            _ => {
                self.load(input, &[]);
            }
        }
    }
}
