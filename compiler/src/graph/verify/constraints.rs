//! V3: the numbered constraints of the op table.
//!
//! In: a node, the bindings of its signature, the graph around it. Out: violations by constraint id. It knows no op by
//! name: what is checked is what the table says.

use std::collections::BTreeMap;

use super::{Checker, Place};
use crate::graph::signature::Bindings;
use crate::graph::{Attr, Graph, Node, Operand, Type, ValueId};
use crate::spec::Check;

/// What constraints ask about the graph as a whole.
pub(super) struct Surroundings {
    /// Readers of each value: operands of nodes and results.
    readers: Vec<u32>,
    /// The first node with this value of this attribute of this op.
    first_with: BTreeMap<(&'static str, &'static str, Attr), ValueId>,
}

impl Surroundings {
    pub(super) fn new(graph: &Graph) -> Self {
        let mut readers = vec![0u32; graph.nodes.len()];
        let operands = graph.nodes.iter().flat_map(|node| &node.operands).filter_map(|operand| match operand {
            Operand::Value(id) => Some(*id),
            Operand::Weight(_) => None,
        });
        for id in operands.chain(graph.outputs.iter().copied()) {
            if let Some(count) = readers.get_mut(id.0 as usize) {
                *count = count.saturating_add(1);
            }
        }
        Self { readers, first_with: BTreeMap::new() }
    }
}

impl Checker<'_> {
    /// Every constraint of the node's op. Without bindings those about dimensions are left out.
    pub(super) fn constraints(&mut self, place: &Place, value: ValueId, node: &Node, bindings: Option<&Bindings<'_>>) {
        for constraint in node.op.spec().constraints {
            if let Some(found) = self.violation(constraint.check, value, node, bindings) {
                let id = format!("{} {}", node.op.name(), constraint.id);
                self.add(place.clone(), &id, format!("{}; found {found}", constraint.text));
            }
        }
    }

    /// What is there instead, if the check fails.
    fn violation(
        &mut self,
        check: Check,
        value: ValueId,
        node: &Node,
        bindings: Option<&Bindings<'_>>,
    ) -> Option<String> {
        let attr = |name: &str| node.op.attrs().into_iter().find(|(attr, _)| *attr == name);
        let number = |name: &str| match attr(name) {
            Some((_, Attr::U32(n))) => Some(n),
            _ => None,
        };
        let dim = |name: &str| bindings.and_then(|bindings| bindings.number(name));
        match check {
            Check::AttrPositive(name) => match attr(name) {
                Some((_, Attr::F32(v))) if v.get().is_finite() && v.get() > 0.0 => None,
                Some((_, found)) => Some(format!("{name} = {found}")),
                None => Some(format!("no {name}")),
            },
            Check::AttrInRange { attr, min, max } => {
                let n = number(attr)?;
                (!(min..=max).contains(&n)).then(|| format!("{attr} = {n}"))
            }
            Check::AttrAtMostDim(attr, of) => {
                let (n, most) = (number(attr)?, dim(of)?);
                (n > most).then(|| format!("{attr} = {n}, {of} = {most}"))
            }
            Check::AttrEven(attr) => {
                let n = number(attr)?;
                (!n.is_multiple_of(2)).then(|| format!("{attr} = {n}"))
            }
            Check::AttrPowerOfTwo(attr) => {
                let n = number(attr)?;
                (!n.is_power_of_two()).then(|| format!("{attr} = {n}"))
            }
            Check::AttrUnique(name) => {
                let (name, found) = attr(name)?;
                let first = *self.surroundings.first_with.entry((node.op.name(), name, found)).or_insert(value);
                (first != value).then(|| format!("{name} = {found} at {first} too"))
            }
            Check::AttrBelowMembers(attr) => {
                let n = number(attr)?;
                let Type::Tuple(members) = &self.operand(node, 0)?.ty else { return None };
                (n as usize >= members.len()).then(|| format!("{attr} = {n} of {} members", members.len()))
            }
            Check::DimAtMost(name, max) => {
                let n = dim(name)?;
                (n > max).then(|| format!("{name} = {n}"))
            }
            Check::DimMultipleOf(name, of) => {
                let (n, unit) = (dim(name)?, dim(of)?);
                (unit == 0 || !n.is_multiple_of(unit)).then(|| format!("{name} = {n}, {of} = {unit}"))
            }
            Check::OperandIs { operand, op } => {
                let found = self.operand(node, operand_index(node, operand)?)?;
                (found.op.name() != op).then(|| format!("that of {}", found.op.name()))
            }
            Check::SoleReader(operand) => match node.operands.get(operand_index(node, operand)?)? {
                Operand::Value(id) => {
                    let readers = *self.surroundings.readers.get(id.0 as usize)?;
                    (readers > 1).then(|| format!("{readers} readers of {id}"))
                }
                Operand::Weight(_) => None,
            },
        }
    }

    /// The node whose value is operand `index`.
    fn operand(&self, node: &Node, index: usize) -> Option<&Node> {
        match node.operands.get(index)? {
            Operand::Value(id) => self.graph.nodes.get(id.0 as usize),
            Operand::Weight(_) => None,
        }
    }
}

/// Where the operand of this name stands.
fn operand_index(node: &Node, name: &str) -> Option<usize> {
    node.op.spec().operands.iter().position(|operand| operand.name == name)
}
