//! A race of candidates: who is measured again, and what was found.
//!
//! In: how many candidates there are, and somebody who measures one. Out: every candidate's time. Candidates take turns in
//! rounds, so that a machine that grows slower does so for all of them; who is hopeless drops out, and who is certainly
//! behind after a few rounds. Times are told by the ratios to the winner within rounds: a candidate that ran only while
//! the machine was fast is not taken for a fast one.

/// When candidates drop out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rules {
    /// Rounds of those who stay.
    pub rounds: usize,
    /// Who took so many times as long as the leader in two rounds is out, and who took twice as many in the first.
    pub hopeless: f64,
    /// From the third round on, who was slower than the leader by this share in every round, and is among the slower half, is out.
    pub margin: f64,
    /// Who was slower than the leader by this share in every round is out even among the faster half.
    pub clear: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { rounds: 9, hopeless: 2.0, margin: 0.01, clear: 0.05 }
    }
}

/// Rounds before anybody but the hopeless drops out.
const FIRST_ROUNDS: usize = 3;

/// What was found of one candidate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Time {
    /// The median, told by ratios to the winner.
    pub median: f64,
    /// Half the distance between the quartiles, by the median.
    pub spread: f64,
    /// How often it was measured.
    pub repeats: usize,
}

/// Runs the race: `measure(candidate)` until the rounds are over, one is left, or it gives `None` (time is up, say): what was
/// measured until then counts. `None` as a result if not everybody was measured once.
///
/// # Errors
/// What `measure` fails with.
pub fn race<E>(
    candidates: usize,
    rules: &Rules,
    mut measure: impl FnMut(usize) -> Result<Option<f64>, E>,
) -> Result<Option<Vec<Time>>, E> {
    // samples[candidate][round]
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); candidates];
    let mut running: Vec<usize> = (0..candidates).collect();
    'rounds: for round in 0..rules.rounds {
        // Every other round backwards: who comes first has no advantage.
        let order: Vec<usize> = if round % 2 == 0 { running.clone() } else { running.iter().rev().copied().collect() };
        for candidate in order {
            match measure(candidate)? {
                Some(time) => samples[candidate].push(time),
                None if round == 0 => return Ok(None),
                None => break 'rounds,
            }
        }
        running = who_stays(&samples, &running, round + 1, rules);
        if running.len() < 2 && round + 1 >= FIRST_ROUNDS {
            break;
        }
    }
    Ok(Some(times(&samples)))
}

/// Who is measured in the next round.
fn who_stays(samples: &[Vec<f64>], running: &[usize], rounds: usize, rules: &Rules) -> Vec<usize> {
    let of = |candidate: &usize| median(&samples[*candidate]);
    let Some(leader) = running.iter().copied().min_by(|a, b| of(a).total_cmp(&of(b))) else { return Vec::new() };
    let middle = median(&running.iter().map(of).collect::<Vec<_>>());
    let stays = |candidate: &usize| {
        // The least of all rounds' ratios.
        let pairs = samples[*candidate].iter().zip(&samples[leader]);
        let least = pairs.map(|(own, leading)| own / leading).fold(f64::INFINITY, f64::min);
        let behind = least > 1.0 + rules.margin && of(candidate) >= middle;
        // Once may be bad luck: somebody else had the core.
        let hopeless = least > if rounds < 2 { 2.0 * rules.hopeless } else { rules.hopeless };
        let out = hopeless || (rounds >= FIRST_ROUNDS && (behind || least > 1.0 + rules.clear));
        *candidate == leader || !out
    };
    running.iter().copied().filter(stays).collect()
}

/// Everybody's time. The winner, of those who were measured most often, has its median; the others that, times the median of
/// their ratios to it.
fn times(samples: &[Vec<f64>]) -> Vec<Time> {
    let rounds = samples.iter().map(Vec::len).max().unwrap_or(0);
    let finalists = samples.iter().filter(|own| own.len() == rounds);
    let Some(winner) = finalists.min_by(|a, b| median(a).total_cmp(&median(b))) else { return Vec::new() };
    let best = median(winner);
    let time = |own: &Vec<f64>| {
        let ratios: Vec<f64> = own.iter().zip(winner).map(|(own, winning)| own / winning).collect();
        // Of one or two samples nobody knows how far they scatter.
        let spread = (quantile(own, 0.75) - quantile(own, 0.25)) / 2.0 / median(own);
        Time { median: best * median(&ratios), spread, repeats: own.len() }
    };
    samples.iter().map(time).collect()
}

/// The middle of the values.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which that share of the values lies, between two of them if need be; infinite of none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share.clamp(0.0, 1.0) * sorted.len().saturating_sub(1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    match (sorted.get(below), sorted.get(above)) {
        (Some(below), Some(above)) => below + (above - below) * place.fract(),
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock: candidate i takes `true_times[i]`, times what the machine is slower by now, times noise.
    struct Machine<'a> {
        true_times: &'a [f64],
        drift: f64,
        noise: f64,
        measured: usize,
        state: u64,
        most: usize,
    }

    impl Machine<'_> {
        fn new(true_times: &[f64], drift: f64, noise: f64) -> Machine<'_> {
            Machine { true_times, drift, noise, measured: 0, state: 1, most: usize::MAX }
        }

        fn measure(&mut self, candidate: usize) -> Option<f64> {
            if self.measured == self.most {
                return None;
            }
            self.measured += 1;
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = (self.state >> 33) as f64 / (1u64 << 31) as f64;
            let slower = 1.0 + self.drift * self.measured as f64;
            Some(self.true_times[candidate] * slower * (1.0 + self.noise * random))
        }

        fn race(&mut self) -> Option<Vec<Time>> {
            race(self.true_times.len(), &Rules::default(), |i| Ok::<_, ()>(self.measure(i))).expect("no error")
        }
    }

    fn winner(times: &[Time]) -> usize {
        (0..times.len()).min_by(|a, b| times[*a].median.total_cmp(&times[*b].median)).expect("a candidate")
    }

    #[test]
    fn the_fastest_wins_and_the_hopeless_are_measured_once() {
        let true_times = [10.0, 31.0, 9.0, 9.8, 50.0, 14.0];
        let mut machine = Machine::new(&true_times, 0.0, 0.01);
        let times = machine.race().expect("times");
        assert_eq!(winner(&times), 2);
        assert_eq!((times[1].repeats, times[4].repeats, times[2].repeats), (2, 1, 3));
        assert!(times[5].repeats == 3 && machine.measured < 20, "{times:?}");
        for (time, true_time) in times.iter().zip(true_times) {
            assert!((time.median / true_time - 1.0).abs() < 0.03, "{time:?} {true_time}");
        }
    }

    #[test]
    fn a_machine_that_grows_slower_fools_nobody() {
        // By the last round it is several times slower: who ran only at first would look best.
        let true_times = [10.0, 10.2, 10.1, 12.0];
        let mut machine = Machine::new(&true_times, 0.1, 0.002);
        let times = machine.race().expect("times");
        let ratio = times[3].median / times[0].median;
        assert!((1.1..1.4).contains(&ratio), "{times:?}");
        assert!(times[3].repeats < times[0].repeats);
    }

    #[test]
    fn equals_are_measured_until_the_end() {
        let mut machine = Machine::new(&[5.0; 4], 0.0, 0.05);
        let times = machine.race().expect("times");
        assert!(times.iter().filter(|time| time.repeats == Rules::default().rounds).count() >= 2, "{times:?}");
        assert!(times.iter().all(|time| time.spread < 0.05));
    }

    #[test]
    fn time_may_be_up() {
        let mut machine = Machine { most: 2, ..Machine::new(&[1.0, 2.0, 3.0], 0.0, 0.0) };
        assert_eq!(machine.race(), None);
        let mut machine = Machine { most: 4, ..Machine::new(&[1.0, 1.1, 1.2], 0.0, 0.0) };
        let times = machine.race().expect("everybody ran once");
        assert_eq!(winner(&times), 0);
        assert_eq!(race::<()>(0, &Rules::default(), |_| Ok(Some(1.0))), Ok(Some(Vec::new())));
        assert_eq!(race(2, &Rules::default(), |_| Err("broken")), Err("broken"));
    }

    #[test]
    fn quantiles() {
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!((quantile(&[1.0, 2.0, 3.0], 0.25), quantile(&[1.0, 2.0, 3.0], 1.0)), (1.5, 3.0));
        assert_eq!(median(&[]), f64::INFINITY);
    }
}
