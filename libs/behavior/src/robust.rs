//! Order statistics, which a few odd values do not move.

/// A quantile of sorted values, between two of them by straight line; 0 for none.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = part.clamp(0.0, 1.0) * last as f64;
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    let low = at(place as usize);
    low + (at((place as usize + 1).min(last)) - low) * place.fract()
}

/// Sorts values.
pub(crate) fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The median absolute deviation from `center`.
pub(crate) fn deviation(values: &[f64], center: f64) -> f64 {
    quantile(&sorted(values.iter().map(|value| (value - center).abs())), 0.5)
}

/// How evenly values lie, 0 to 1: the mean of `1 − MAD / median` and `1 − |Bowley's skewness|`.
///
/// Bowley's skewness is `(Q1 + Q3 − 2 · Q2) / (Q3 − Q1)`; it is 0 where the quartiles are alike.
pub(crate) fn evenness(values: &[f64]) -> f64 {
    let sorted = sorted(values.iter().copied());
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|part| quantile(&sorted, part));
    if middle <= 0.0 {
        return 0.0;
    }
    let skewness = if high > low { (low + high - 2.0 * middle) / (high - low) } else { 0.0 };
    let spread = deviation(values, middle) / middle;
    f64::midpoint(1.0 - spread.min(1.0), 1.0 - skewness.abs().min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_values() {
        let values = sorted([4.0, 1.0, 3.0, 2.0]);
        assert_eq!([0.0, 0.5, 1.0, 7.0].map(|part| quantile(&values, part)), [1.0, 2.5, 4.0, 4.0]);
        assert_eq!((quantile(&[], 0.5), quantile(&[9.0], 0.3)), (0.0, 9.0));
        assert_eq!(deviation(&[1.0, 2.0, 3.0, 4.0, 1_000.0], 3.0), 1.0);
    }

    #[test]
    fn even_values_are_told_from_uneven_ones() {
        assert_eq!(evenness(&[60.0; 20]), 1.0);
        assert!(evenness(&[59.0, 60.0, 61.0, 60.0, 60.0, 59.0, 61.0]) > 0.95);
        assert!(evenness(&[1.0, 2.0, 90.0, 3.0, 1.0, 400.0, 2.0]) < 0.6);
        assert_eq!(evenness(&[]), 0.0);
    }
}
