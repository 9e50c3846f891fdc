//! A growing array of atomic words whose elements never move.
use crate::sync::{AtomicU64, OnceBox, Ordering, Watch};

/// Fewest words of a further segment.
const SECOND: u32 = if cfg!(crossbeam_loom) { 1 } else { 4 };

/// Words in segments: the first of the length asked for, each further one as long as all before
/// it, so n words lie in about log2(n) segments. All start as zero.
#[derive(Debug)]
pub(crate) struct Words {
    head: Segment,
}

#[derive(Debug)]
struct Segment {
    words: Box<[AtomicU64]>,
    next: OnceBox<Segment>,
    watch: Watch,
}

impl Segment {
    fn zeroed(len: u32) -> Self {
        Self {
            words: (0..len).map(|_| AtomicU64::new(0)).collect(),
            next: OnceBox::empty(),
            watch: Watch::new(),
        }
    }

    fn len(&self) -> u32 {
        u32::try_from(self.words.len()).unwrap_or(u32::MAX)
    }
}

impl Words {
    /// Zeroed words; the first segment has `first` of them (0 for an array that stays empty).
    pub(crate) fn new(first: u32) -> Self {
        Self {
            head: Segment::zeroed(first),
        }
    }

    /// The same with the first word set. `first` is at least 1.
    pub(crate) fn starting_with(word: u64, first: u32) -> Self {
        let this = Self::new(first.max(1));
        // Relaxed: not shared yet; whoever publishes the owner releases it.
        this.head.words[0].store(word, Ordering::Relaxed);
        this
    }

    /// The word at `at`, allocating segments up to it. O(log at).
    pub(crate) fn at(&self, at: u32) -> &AtomicU64 {
        let (mut segment, mut before) = (&self.head, 0);
        while at - before >= segment.len() {
            before += segment.len();
            segment = segment
                .next
                .get_or_set(|| Segment::zeroed(before.max(SECOND)));
            segment.watch.read();
        }
        &segment.words[(at - before) as usize]
    }

    /// The segments there are, in order.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &[AtomicU64]> {
        let mut next = Some(&self.head);
        std::iter::from_fn(move || {
            let segment = next?;
            segment.watch.read();
            next = segment.next.get();
            Some(&*segment.words)
        })
    }
}
