//! Where the time of a step goes: phases by the class of their kernels.
//!
//! In: profiles of steps and the schedule that was compiled. Out: a [`Breakdown`]. A phase lasts from when the threads left
//! the meeting before it until they leave its own, so waiting for the slowest thread belongs to it; how much of it thread 0
//! waited is kept apart as well.

use std::collections::BTreeMap;
use std::time::Duration;

use tern_compiler::schedule::traffic::Class;
use tern_compiler::schedule::{Phase, Schedule};
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
    ///
    /// A single token passes the meetings that it does not need: what it does before them counts as the next phase's. A
    /// coarse head meets more often than once.
    pub(super) fn of(schedule: &Schedule, steps: &[StepProfile]) -> Option<Self> {
        let mut found = Self::default();
        for step in steps {
            let meetings = step.meetings.len();
            let classes = [step.tokens == 1, false].into_iter().find_map(|is_alone| {
                let met: Vec<&Phase> = schedule.phases.iter().filter(|phase| !(is_alone && phase.alone)).collect();
                let body: Vec<Class> =
                    met.iter().filter(|p| !p.is_for_wanted_rows()).map(|p| Class::of_phase(schedule, p)).collect();
                let all = met.iter().map(|p| Class::of_phase(schedule, p));
                match meetings {
                    n if n == body.len() => Some(body),
                    n if n >= met.len() => Some(all.chain(std::iter::repeat(Class::Head)).take(n).collect()),
                    _ => None,
                }
            })?;
            let mut left = Duration::ZERO;
            for (class, meeting) in classes.iter().zip(&step.meetings) {
                *found.phases.entry(*class).or_default() += meeting.left.saturating_sub(left);
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

    /// Microseconds per token by the names of the classes, and of waiting and what follows the last meeting.
    pub(super) fn us_per_tok(&self) -> BTreeMap<&'static str, f64> {
        let us = |time: Duration| time.as_secs_f64() * 1e6 / self.tokens as f64;
        let classes = self.phases.iter().map(|(class, time)| (class.name(), us(*time)));
        classes.chain([("end", us(self.end)), ("waiting of thread 0", us(self.waited))]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let odd = StepProfile { meetings: step.meetings[..1].to_vec(), ..step };
        assert_eq!(Breakdown::of(&schedule, &[odd]), None);
        assert_eq!(Breakdown::of(&schedule, &[]), None);
    }
}
