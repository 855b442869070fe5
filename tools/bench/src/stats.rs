//! Medians, spreads, and how sure a ratio is. Pure; knows nothing of what the numbers mean.

/// How repeated measurements of one thing lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    /// The middle one.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
    /// The median distance from the median.
    pub(crate) mad: f64,
    /// How many there are.
    pub(crate) count: usize,
}

impl Spread {
    /// The spread of these values; `None` where there are none.
    pub(crate) fn of(values: &[f64]) -> Option<Spread> {
        let sorted = sorted(values);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let median = middle(&sorted);
        let away: Vec<f64> = sorted.iter().map(|value| (value - median).abs()).collect();
        Some(Spread { median, min, max, mad: middle(&self::sorted(&away)), count: sorted.len() })
    }

    /// How far the extremes lie apart, as a share of the median; 0 where the median is.
    pub(crate) fn relative(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.max - self.min) / self.median }
    }
}

/// The median of these values, or 0 where there are none.
pub(crate) fn median(values: &[f64]) -> f64 {
    Spread::of(values).map_or(0.0, |spread| spread.median)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// A ratio of two medians, with the interval that holds it in 95 of 100 bootstraps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    /// The second median over the first.
    pub(crate) ratio: f64,
    /// The lower end of the interval.
    pub(crate) low: f64,
    /// The upper end.
    pub(crate) high: f64,
}

impl Ratio {
    /// Whether the interval lies wholly on one side of 1.
    pub(crate) fn is_beyond_noise(&self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }
}

/// How often a bootstrap draws.
const DRAWS: usize = 2000;

/// The ratio of the medians of `second` and `first`. `None` where either is empty or the first
/// median is 0. The same values give the same interval.
pub(crate) fn ratio(first: &[f64], second: &[f64]) -> Option<Ratio> {
    let (below, above) = (Spread::of(first)?.median, Spread::of(second)?.median);
    if below == 0.0 {
        return None;
    }
    let mut random = Random::new(0x6d61_7263_6f6e_6921);
    let mut draw = |values: &[f64]| {
        let drawn: Vec<f64> =
            values.iter().map(|_| values[random.below(values.len() as u64) as usize]).collect();
        median(&drawn)
    };
    let mut ratios: Vec<f64> = (0..DRAWS)
        .filter_map(|_| {
            let (second, first) = (draw(second), draw(first));
            (first != 0.0).then(|| second / first)
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let at = |share: f64| ratios[((ratios.len() - 1) as f64 * share).round() as usize];
    let (low, high) = if ratios.is_empty() { (f64::NAN, f64::NAN) } else { (at(0.025), at(0.975)) };
    Some(Ratio { ratio: above / below, low, high })
}

/// Numbers from a seed: splitmix64. The same seed gives the same numbers everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// A source that begins at `seed`.
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Any number.
    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.word() % bound
    }

    /// A number from 0 up to 1.
    pub(crate) fn share(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_those_of_the_book() {
        let spread = Spread::of(&[4.0, 1.0, 2.0, 10.0]).expect("there are values");
        assert_eq!((spread.median, spread.min, spread.max), (3.0, 1.0, 10.0));
        assert_eq!(spread.mad, 1.5);
        assert_eq!(spread.relative(), 3.0);
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn a_ratio_is_as_sure_as_its_values() {
        let clear = ratio(&[100.0, 101.0, 99.0], &[200.0, 205.0, 198.0]).expect("values");
        assert_eq!(clear.ratio, 2.0);
        assert!(clear.low > 1.9 && clear.high < 2.1 && clear.is_beyond_noise(), "{clear:?}");
        let noisy = ratio(&[100.0, 150.0, 80.0], &[110.0, 90.0, 140.0]).expect("values");
        assert!(noisy.low < 1.0 && noisy.high > 1.0 && !noisy.is_beyond_noise(), "{noisy:?}");
        assert_eq!(ratio(&[], &[1.0]), None);
        assert_eq!(ratio(&[0.0], &[1.0]), None);
        assert_eq!(ratio(&[2.0], &[1.0]), ratio(&[2.0], &[1.0]));
    }

    #[test]
    fn shares_stay_within_bounds() {
        let mut random = Random::new(7);
        let shares: Vec<f64> = (0..1000).map(|_| random.share()).collect();
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)));
        let mean = shares.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
