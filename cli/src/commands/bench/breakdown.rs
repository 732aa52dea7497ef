//! Where the time of a step goes: phases by the class of their kernels.
//!
//! In: profiles of steps and the schedule that was compiled. Out: a [`Breakdown`]. A phase lasts from when the threads left
//! the meeting before it until they leave its own, so waiting for the slowest thread belongs to it; how much of it thread 0
//! waited is kept apart as well. A phase that threads leave without a meeting, in steps of one token, counts with the next.

use std::collections::BTreeMap;
use std::time::Duration;

use tern_compiler::schedule::head::MEETINGS;
use tern_compiler::schedule::traffic::Class;
use tern_compiler::schedule::{Arg, Schedule};
use tern_runtime::profile::StepProfile;

/// Time by class, over several steps.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Breakdown {
    /// Phases, from start to end.
    pub(super) phases: BTreeMap<Class, Duration>,
    /// Of that, what thread 0 spent at the meetings.
    pub(super) waited: Duration,
    /// After the last meeting.
    pub(super) end: Duration,
    /// Tokens of the steps.
    pub(super) tokens: u64,
}

impl Breakdown {
    /// The time of `steps`; `None` if they met another number of times than the phases of `schedule` do.
    pub(super) fn of(schedule: &Schedule, steps: &[StepProfile]) -> Option<Self> {
        let ways = |tokens| Way::of_step(tokens).map(|way| meetings(schedule, way));
        let (one, several) = (ways(1), ways(2));
        let mut found = Self::default();
        for step in steps {
            let ways = if step.tokens == 1 { &one } else { &several };
            let classes = ways.iter().find(|classes| classes.len() == step.meetings.len())?;
            let mut left = Duration::ZERO;
            for (class, meeting) in classes.iter().copied().zip(&step.meetings) {
                *found.phases.entry(class).or_default() += meeting.left.saturating_sub(left);
                found.waited += meeting.left.saturating_sub(meeting.arrived);
                left = meeting.left;
            }
            found.end += step.total.saturating_sub(left);
            found.tokens += u64::from(step.tokens);
        }
        (found.tokens > 0).then_some(found)
    }

    /// Time of the phases of `class`.
    pub(super) fn of_class(&self, class: Class) -> Duration {
        self.phases.get(&class).copied().unwrap_or_default()
    }

    /// Microseconds per token by the names of the classes and of what follows the last meeting, which make the whole; and how
    /// much of it thread 0 waited.
    pub(super) fn us_per_tok(&self) -> BTreeMap<&'static str, f64> {
        let us = |time: Duration| time.as_secs_f64() * 1e6 / self.tokens as f64;
        let classes = self.phases.iter().map(|(class, time)| (class.name(), us(*time)));
        classes.chain([("end", us(self.end)), ("of which thread 0 waited", us(self.waited))]).collect()
    }
}

/// A way through the phases: which of them end with a meeting.
#[derive(Clone, Copy)]
struct Way {
    /// Logits are wanted.
    head: bool,
    /// They are found with the head's coarse copy, which takes [`MEETINGS`] more.
    coarse: bool,
    /// Threads do small phases each for itself.
    alone: bool,
}

impl Way {
    /// The ways that a step may go, the likelier first.
    fn of_step(tokens: u32) -> [Way; 6] {
        let (one, others) = (tokens == 1, tokens != 1);
        let way = |head, coarse, alone| Way { head, coarse, alone };
        [
            way(true, true, one),
            way(true, false, one),
            way(false, false, one),
            way(true, true, others),
            way(true, false, others),
            way(false, false, others),
        ]
    }
}

/// The class of what is done before each meeting.
fn meetings(schedule: &Schedule, way: Way) -> Vec<Class> {
    let (mut classes, mut carried) = (Vec::new(), None);
    for phase in schedule.phases.iter().filter(|phase| way.head || !phase.is_for_wanted_rows()) {
        let class = Class::of_phase(schedule, phase).max(carried.unwrap_or(Class::Embed));
        let extra =
            way.coarse && schedule.coarse_head.is_some() && phase.calls.iter().any(|c| c.args.contains(&Arg::Logits));
        classes.extend([Class::Head; MEETINGS].iter().filter(|_| extra));
        carried = (way.alone && phase.alone).then_some(class);
        if carried.is_none() {
            classes.push(class);
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;
    use tern_compiler::schedule::Phase;
    use tern_runtime::profile::Meeting;

    #[test]
    fn phases_are_told_from_waiting() {
        let schedule = Schedule { phases: vec![Phase::default(), Phase::default()], ..Schedule::default() };
        let us = Duration::from_micros;
        let meetings = vec![Meeting { arrived: us(3), left: us(5) }, Meeting { arrived: us(9), left: us(10) }];
        let step = StepProfile { tokens: 2, meetings, total: us(12) };
        let found = Breakdown::of(&schedule, std::slice::from_ref(&step)).expect("a breakdown");
        assert_eq!((found.of_class(Class::Elementwise), found.waited, found.end), (us(10), us(3), us(2)));
        assert_eq!(found.us_per_tok()["elementwise"], 5.0);
        let mut small = schedule.clone();
        small.phases[0].alone = true;
        let one = StepProfile { tokens: 1, meetings: vec![step.meetings[1]], total: us(12) };
        let found = Breakdown::of(&small, &[one, step.clone()]).expect("a breakdown");
        assert_eq!((found.of_class(Class::Elementwise), found.tokens), (us(20), 3));
        let odd = StepProfile { meetings: step.meetings[..1].to_vec(), ..step };
        assert_eq!(Breakdown::of(&schedule, &[odd]), None);
        assert_eq!(Breakdown::of(&schedule, &[]), None);
    }
}
