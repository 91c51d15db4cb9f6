//! How much do the links of one item weigh? Only the sums that are not zero, link after link: most links hold one or two.
//!
//! A link's sums are found by counting the bits of the links before it, which takes less time than reading the zeros would.

/// The most sums of a link: its bits are handed out together.
pub(in crate::collab) const MOST_SUMS: usize = 16;

/// What a list may have to spare when it grows: an eighth. There are as many lists as items, and most grow slowly.
const SPARE_SHARE: usize = 8;

/// The sums of an item's links by position and place; what is not kept is zero.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::collab) struct Sums {
    /// For each link a bit for each sum that is kept, in as few bytes as the places need, the first places first.
    bits: Vec<u8>,
    /// The sums that are kept; none is zero.
    values: Vec<f32>,
}

/// The sums of one link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::collab) struct LinkSums<'a> {
    /// A bit for each place with a sum.
    pub(in crate::collab) mask: u16,
    /// Those sums, by place.
    pub(in crate::collab) values: &'a [f32],
}

impl LinkSums<'_> {
    /// All of them together.
    #[inline]
    pub(in crate::collab) fn total(self) -> f32 {
        self.values.iter().sum()
    }

    /// All before `place` together, which must be the last place of all.
    #[inline]
    pub(in crate::collab) fn total_before_last(self, place: usize) -> f32 {
        let before = self.values.len() - usize::from(self.mask >> place & 1);
        self.values[..before].iter().sum()
    }

    /// Each place with a sum, and the sum.
    #[inline]
    pub(in crate::collab) fn places(self) -> impl Iterator<Item = (usize, f32)> {
        let mut mask = self.mask;
        self.values.iter().map(move |&sum| {
            let place = mask.trailing_zeros() as usize;
            mask &= mask.wrapping_sub(1);
            (place, sum)
        })
    }
}

/// How many bytes the bits of `stride` places take.
#[inline]
fn width(stride: usize) -> usize {
    stride.div_ceil(8)
}

/// The bits of one link.
#[inline]
fn mask(bytes: &[u8]) -> u16 {
    match *bytes {
        [low] => u16::from(low),
        [low, high] => u16::from_le_bytes([low, high]),
        _ => 0,
    }
}

/// How many bits are set.
#[inline]
fn count_bits(bytes: &[u8]) -> usize {
    // Eight bytes at a time, each byte's count in its place: thirty rounds of at most 8 do not overflow it.
    let mut count = 0;
    for part in bytes.chunks(240) {
        let eights = part.chunks_exact(8);
        let rest: u32 = eights.remainder().iter().map(|byte| byte.count_ones()).sum();
        let mut sums = 0_u64;
        for eight in eights {
            let mut bits =
                u64::from_le_bytes([eight[0], eight[1], eight[2], eight[3], eight[4], eight[5], eight[6], eight[7]]);
            bits -= bits >> 1 & 0x5555_5555_5555_5555;
            bits = (bits & 0x3333_3333_3333_3333) + (bits >> 2 & 0x3333_3333_3333_3333);
            sums += (bits + (bits >> 4)) & 0x0F0F_0F0F_0F0F_0F0F;
        }
        let pairs = (sums & 0x00FF_00FF_00FF_00FF) + (sums >> 8 & 0x00FF_00FF_00FF_00FF);
        count += (pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48) as usize + rest as usize;
    }
    count
}

/// Puts the first link that is lighter than `best`, and than all others, in its place. They have these bits and sums and
/// the positions from `position` on.
#[inline]
fn lighter(bits: &[u8], values: &[f32], position: usize, stride: usize, best: &mut (f32, usize)) {
    let mut start = 0;
    for (index, bytes) in bits.chunks_exact(width(stride)).enumerate() {
        let end = start + count_few(bytes);
        // A link weighs no less than its first sum, so few are added up.
        if start == end || values[start] < best.0 {
            let weight = values[start..end].iter().sum();
            if weight < best.0 {
                *best = (weight, position + index);
            }
        }
        start = end;
    }
}

/// How many bits are set in one link's bytes.
#[inline]
fn count_few(bytes: &[u8]) -> usize {
    bytes.iter().map(|&byte| usize::from(BITS_OF[usize::from(byte)])).sum()
}

/// How many bits each byte has; counting them anew for each link would take longer than the rest.
const BITS_OF: [u8; 256] = {
    let mut counts = [0; 256];
    let mut byte = 1;
    while byte < 256 {
        counts[byte] = counts[byte / 2] + (byte % 2) as u8;
        byte += 1;
    }
    counts
};

/// Makes room for `more` elements, and little beyond.
pub(super) fn reserve<T>(list: &mut Vec<T>, more: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(more + list.len() / SPARE_SHARE);
    }
}

impl Sums {
    /// Links with these bits, `stride` places each, and these sums one after the other. There must be a sum for each bit.
    pub(super) fn new(masks: impl Iterator<Item = u16>, values: Vec<f32>, stride: usize) -> Self {
        let mut bits = Vec::with_capacity(masks.size_hint().0 * width(stride));
        masks.for_each(|mask| bits.extend_from_slice(&mask.to_le_bytes()[..width(stride)]));
        Self { bits, values }
    }

    /// Whether every sum is zero.
    pub(super) fn is_zero(&self) -> bool {
        self.values.is_empty()
    }

    /// How many sums there are.
    pub(super) fn count(&self) -> usize {
        self.values.len()
    }

    /// The sums of each link in turn.
    #[inline]
    pub(in crate::collab) fn iter(&self, stride: usize) -> impl Iterator<Item = LinkSums<'_>> {
        let mut rest = self.values.as_slice();
        self.bits.chunks_exact(width(stride)).map(move |bytes| {
            let (values, after) = rest.split_at(count_few(bytes));
            rest = after;
            LinkSums { mask: mask(bytes), values }
        })
    }

    /// The bits of the link at `position`, and where its sums are.
    #[inline]
    fn find(&self, position: usize, stride: usize) -> (u16, std::ops::Range<usize>) {
        let start = position * width(stride);
        let mask = mask(&self.bits[start..start + width(stride)]);
        let first = count_bits(&self.bits[..start]);
        (mask, first..first + mask.count_ones() as usize)
    }

    #[inline]
    fn set_mask(&mut self, position: usize, mask: u16, stride: usize) {
        let start = position * width(stride);
        self.bits[start..start + width(stride)].copy_from_slice(&mask.to_le_bytes()[..width(stride)]);
    }

    /// Adds `value`, which must be more than 0, to one sum of a link.
    pub(super) fn add(&mut self, position: usize, place: usize, value: f32, stride: usize) {
        let (mask, range) = self.find(position, stride);
        let index = range.start + (mask & ((1 << place) - 1)).count_ones() as usize;
        if mask >> place & 1 == 1 {
            self.values[index] += value;
        } else {
            self.set_mask(position, mask | 1 << place, stride);
            reserve(&mut self.values, 1);
            self.values.insert(index, value);
        }
    }

    /// Appends a link with one sum, which must be more than 0.
    pub(super) fn push(&mut self, place: usize, value: f32, stride: usize) {
        reserve(&mut self.bits, width(stride));
        self.bits.extend_from_slice(&(1_u16 << place).to_le_bytes()[..width(stride)]);
        reserve(&mut self.values, 1);
        self.values.push(value);
    }

    /// Puts another link, with one sum, which must be more than 0, in the place of that at `position`.
    pub(super) fn replace(&mut self, position: usize, place: usize, value: f32, stride: usize) {
        let (_, range) = self.find(position, stride);
        self.set_mask(position, 1 << place, stride);
        self.put(range, &[value]);
    }

    /// Changes one sum of a link; what becomes zero is not kept.
    pub(super) fn change(&mut self, position: usize, place: usize, stride: usize, change: impl FnOnce(&mut f32)) {
        let (mask, range) = self.find(position, stride);
        if mask >> place & 1 == 0 {
            return;
        }
        let index = range.start + (mask & ((1 << place) - 1)).count_ones() as usize;
        change(&mut self.values[index]);
        if self.values[index] == 0.0 {
            self.values.remove(index);
            self.set_mask(position, mask & !(1 << place), stride);
        }
    }

    /// Multiplies all sums.
    pub(super) fn scale(&mut self, factor: f32, stride: usize) {
        let mut lost = false;
        for value in &mut self.values {
            *value *= factor;
            lost |= *value == 0.0;
        }
        if lost {
            self.drop_zeros(stride);
        }
    }

    /// Drops what has become so little that no float is between it and zero.
    fn drop_zeros(&mut self, stride: usize) {
        let mut masks: Vec<u16> = Vec::with_capacity(self.bits.len() / width(stride));
        for link in self.iter(stride) {
            masks.push(link.places().filter(|&(_, sum)| sum != 0.0).fold(0, |mask, (place, _)| mask | 1 << place));
        }
        for (position, mask) in masks.into_iter().enumerate() {
            self.set_mask(position, mask, stride);
        }
        self.values.retain(|&value| value != 0.0);
    }

    /// The lightest link, and of equal ones the first from `start` on, going round.
    pub(super) fn lightest(&self, start: usize, stride: usize) -> usize {
        let turn = start * width(stride);
        let (before, after) = self.bits.split_at(turn);
        let first = count_bits(before);
        let mut best = (f32::INFINITY, start);
        lighter(after, &self.values[first..], start, stride, &mut best);
        lighter(before, &self.values[..first], 0, stride, &mut best);
        best.1
    }

    /// Removes the link at `position`; the last one takes its place.
    pub(super) fn swap_remove(&mut self, position: usize, stride: usize) {
        let (_, range) = self.find(position, stride);
        self.swap_remove_at(position, range, stride);
    }

    /// Calls `removed` with the position of each link that is lighter than `least`, the last first, and removes it; the
    /// last one takes its place.
    pub(super) fn remove_lighter(&mut self, least: f32, stride: usize, mut removed: impl FnMut(usize)) {
        let mut end = self.values.len();
        for position in (0..self.bits.len() / width(stride)).rev() {
            let bytes = &self.bits[position * width(stride)..(position + 1) * width(stride)];
            let start = end - mask(bytes).count_ones() as usize;
            if self.values[start..end].iter().sum::<f32>() < least {
                self.swap_remove_at(position, start..end, stride);
                removed(position);
            }
            end = start;
        }
    }

    fn swap_remove_at(&mut self, position: usize, range: std::ops::Range<usize>, stride: usize) {
        let last = self.bits.len() - width(stride);
        let last_mask = mask(&self.bits[last..]);
        if position * width(stride) < last {
            let mut moved = [0.0; MOST_SUMS];
            let moved = &mut moved[..last_mask.count_ones() as usize];
            let first = self.values.len() - moved.len();
            moved.copy_from_slice(&self.values[first..]);
            self.values.truncate(first);
            self.set_mask(position, last_mask, stride);
            self.put(range, moved);
        } else {
            self.values.truncate(range.start);
        }
        self.bits.truncate(last);
    }

    /// Puts `new` in the place of the sums in `range`.
    fn put(&mut self, range: std::ops::Range<usize>, new: &[f32]) {
        let (length, end) = (self.values.len(), range.start + new.len());
        if new.len() > range.len() {
            let more = new.len() - range.len();
            reserve(&mut self.values, more);
            self.values.resize(length + more, 0.0);
        }
        if end != range.end {
            self.values.copy_within(range.end..length, end);
        }
        self.values[range.start..end].copy_from_slice(new);
        self.values.truncate(length + new.len() - range.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a link's sums would be with the zeros.
    fn dense(link: LinkSums<'_>, stride: usize) -> Vec<f32> {
        let mut sums = vec![0.0; stride];
        link.places().for_each(|(place, sum)| sums[place] = sum);
        sums
    }

    #[derive(Debug, Clone)]
    enum Change {
        Push(usize, u8),
        Add(usize, usize, u8),
        Replace(usize, usize, u8),
        Halve(usize, usize),
        Clear(usize, usize),
        Remove(usize),
        RemoveLighter(u8),
        Scale,
    }

    fn change() -> impl Strategy<Value = Change> {
        let (at, place, value) = (0..40_usize, 0..16_usize, 1..20_u8);
        prop_oneof![
            4 => (place.clone(), value.clone()).prop_map(|(place, value)| Change::Push(place, value)),
            8 => (at.clone(), place.clone(), value.clone()).prop_map(|(at, place, value)| Change::Add(at, place, value)),
            2 => (at.clone(), place.clone(), value.clone())
                .prop_map(|(at, place, value)| Change::Replace(at, place, value)),
            1 => (at.clone(), place.clone()).prop_map(|(at, place)| Change::Halve(at, place)),
            1 => (at.clone(), place).prop_map(|(at, place)| Change::Clear(at, place)),
            1 => at.prop_map(Change::Remove),
            1 => value.prop_map(Change::RemoveLighter),
            1 => Just(Change::Scale),
        ]
    }

    proptest! {
        #[test]
        fn sums_are_those_of_a_list_with_zeros(
            stride in 3..=MOST_SUMS,
            changes in proptest::collection::vec(change(), 0..400),
        ) {
            let mut sums = Sums::default();
            let mut expected: Vec<Vec<f32>> = Vec::new();
            for change in changes {
                let count = expected.len().max(1);
                match change {
                    Change::Push(place, value) => {
                        sums.push(place % stride, value.into(), stride);
                        expected.push(vec![0.0; stride]);
                        expected.last_mut().unwrap()[place % stride] = value.into();
                    }
                    Change::RemoveLighter(least) => {
                        let mut removed = Vec::new();
                        sums.remove_lighter(least.into(), stride, |position| removed.push(position));
                        let mut lighter = Vec::new();
                        for position in (0..expected.len()).rev() {
                            if expected[position].iter().sum::<f32>() < least.into() {
                                expected.swap_remove(position);
                                lighter.push(position);
                            }
                        }
                        prop_assert_eq!(removed, lighter);
                    }
                    Change::Scale => {
                        sums.scale(0.5, stride);
                        expected.iter_mut().flatten().for_each(|sum| *sum *= 0.5);
                    }
                    _ if expected.is_empty() => {}
                    Change::Add(at, place, value) => {
                        sums.add(at % count, place % stride, value.into(), stride);
                        expected[at % count][place % stride] += f32::from(value);
                    }
                    Change::Replace(at, place, value) => {
                        sums.replace(at % count, place % stride, value.into(), stride);
                        expected[at % count].fill(0.0);
                        expected[at % count][place % stride] = value.into();
                    }
                    Change::Halve(at, place) => {
                        sums.change(at % count, place % stride, stride, |sum| *sum *= 0.5);
                        expected[at % count][place % stride] *= 0.5;
                    }
                    Change::Clear(at, place) => {
                        sums.change(at % count, place % stride, stride, |sum| *sum = 0.0);
                        expected[at % count][place % stride] = 0.0;
                    }
                    Change::Remove(at) => {
                        sums.swap_remove(at % count, stride);
                        expected.swap_remove(at % count);
                    }
                }
                let found: Vec<_> = sums.iter(stride).map(|link| dense(link, stride)).collect();
                prop_assert_eq!(&found, &expected);
                prop_assert!(sums.values.iter().all(|&sum| sum != 0.0));
                for (link, expected) in sums.iter(stride).zip(&expected) {
                    prop_assert_eq!(link.total(), expected.iter().sum::<f32>());
                    prop_assert_eq!(link.total_before_last(stride - 1), expected[..stride - 1].iter().sum::<f32>());
                }
                for start in [0, expected.len() / 2].into_iter().filter(|_| !expected.is_empty()) {
                    let order = (start..expected.len()).chain(0..start);
                    let weight = |position: usize| expected[position].iter().sum::<f32>();
                    let lightest = order.reduce(|best, next| if weight(next) < weight(best) { next } else { best });
                    prop_assert_eq!(Some(sums.lightest(start, stride)), lightest);
                }
            }
        }
    }

    #[test]
    fn bits_are_counted() {
        let bytes: Vec<u8> = (0..2000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for length in (0..300).chain([2000]) {
            let expected: u32 = bytes[..length].iter().map(|byte| byte.count_ones()).sum();
            assert_eq!(count_bits(&bytes[..length]), expected as usize);
        }
        assert_eq!(count_bits(&[255; 2000]), 16_000);
    }

    #[test]
    fn what_fades_to_nothing_is_not_kept() {
        let mut sums = Sums::default();
        sums.push(0, 1.0, 5);
        sums.add(0, 3, f32::MIN_POSITIVE, 5);
        sums.scale(1e-10, 5);
        assert_eq!((sums.count(), dense(sums.iter(5).next().unwrap(), 5)), (1, vec![1e-10, 0.0, 0.0, 0.0, 0.0]));
    }

    #[test]
    fn a_growing_list_has_little_to_spare() {
        let mut sums = Sums::default();
        (0..1000).for_each(|_| sums.push(0, 1.0, 5));
        assert!(sums.values.capacity() <= 1126 && sums.bits.capacity() <= 1126);
    }
}
