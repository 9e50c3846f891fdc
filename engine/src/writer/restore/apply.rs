//! Applying the records of a dump to the writer.
use super::super::names::{Copies, Place};
use super::super::place::Cursor;
use super::super::waiting::{Orphan, Unplaced};
use super::super::{Block, Writer};
use super::record::{Run, Why, key_of, stretch_of, within};
use super::{Piece, Restore, RestoreError, Restored};
use crate::limits::WAITING_MAX;
use crate::tree::Pin;
use crate::types::{Context, EngineHash, Tier};

/// So many names before one is entered, its place in the table is asked for: a cache miss costs as much as the
/// work on ten.
const AHEAD: usize = 16;

impl Restore {
    /// Counts names that come; whether there is room for them.
    fn take_in(&mut self, names: usize, writer: &Writer) -> bool {
        self.found += names as u64;
        self.done += names as u64;
        if writer.account.is_over() {
            self.dropped += names as u64;
            return false;
        }
        true
    }

    pub(super) fn members(
        &mut self,
        group: u8,
        copies: u32,
        names: &[[u8; 8]],
        writer: &mut Writer,
    ) -> Result<(), RestoreError> {
        within("window group", group, 0..=self.groups as u64)?;
        self.done += names.len() as u64;
        let over = writer.account.is_over();
        let groups = writer.windows.as_mut().map(|windows| &mut windows.groups);
        let there = groups.and_then(|groups| groups.get_mut(usize::from(group)));
        let Some(there) = there else {
            let (field, value) = ("window group", group.into());
            return Err(RestoreError::Value { field, value });
        };
        if over {
            self.incomplete = true;
            return Ok(());
        }
        for &name in names {
            let hash = EngineHash(u64::from_le_bytes(name));
            if there.names.contains(hash) {
                return Err(RestoreError::NamedTwice(hash));
            }
            there.names.insert(hash, copies);
        }
        Ok(())
    }

    /// The place of a block of the dump; none if it was dropped.
    pub(super) fn place(
        &self,
        run: u32,
        offset: impl Into<u32>,
    ) -> Result<Option<Place>, RestoreError> {
        let offset = offset.into();
        let Some(restored) = self.runs.get(run as usize) else {
            let (field, value) = ("run", run.into());
            return Err(RestoreError::Value { field, value });
        };
        within("offset", offset, 0..=u64::from(restored.blocks) - 1)?;
        let first = restored.first as usize;
        let pieces = &self.pieces[first..first + usize::from(restored.pieces)];
        let further = pieces.partition_point(|piece| u32::from(piece.from) <= offset);
        let piece = further.checked_sub(1).map(|at| pieces[at]);
        Ok(piece.map(|piece| Place {
            // Within one run.
            offset: piece.place.offset + (offset - u32::from(piece.from)) as u16,
            ..piece.place
        }))
    }

    /// Where a run goes on, and in which of the writer's contexts; nowhere if what comes before was dropped.
    fn before(
        &self,
        run: &Run<'_>,
        writer: &mut Writer,
        pin: &Pin,
    ) -> Result<Option<(Cursor, u32)>, RestoreError> {
        let at = run.head.at;
        if let Some(parent) = run.head.parent.checked_sub(1) {
            let place = self.place(parent, at)?;
            return Ok(place.and_then(|place| {
                let context = writer.context_of(place)?;
                Some((Cursor::After(place), context))
            }));
        }
        let number = self.context(at, writer, pin)?;
        Ok(Some((Cursor::Root, number)))
    }

    /// The writer's number of a context of the dump, in use from now on.
    fn context(&self, at: u32, writer: &mut Writer, pin: &Pin) -> Result<u32, RestoreError> {
        let Some((adapter, block_size)) = self.contexts.get(at as usize) else {
            let (field, value) = ("context", at.into());
            return Err(RestoreError::Value { field, value });
        };
        let context = Context {
            model: &writer.model,
            adapter: Some(adapter),
            block_size: *block_size,
        };
        let number = writer.contexts.number(&writer.index, context, &pin.guard)?;
        Ok(number)
    }

    pub(super) fn run(
        &mut self,
        run: &Run<'_>,
        writer: &mut Writer,
        pin: &Pin,
    ) -> Result<(), RestoreError> {
        let before = self.before(run, writer, pin)?;
        within("pieces", self.pieces.len() as u64, 0..=u32::MAX.into())?;
        let first = self.pieces.len() as u32;
        self.done += run.keys.len() as u64;
        let room = self.take_in(run.names.len(), writer);
        if room && let Some((cursor, context)) = before {
            self.blocks(run, cursor, context, writer, pin)?;
        } else if room {
            self.dropped += run.names.len() as u64;
        }
        self.runs.push(Restored {
            first,
            pieces: (self.pieces.len() - first as usize) as u16,
            blocks: run.head.blocks,
        });
        Ok(())
    }

    fn blocks(
        &mut self,
        run: &Run<'_>,
        cursor: Cursor,
        context: u32,
        writer: &mut Writer,
        pin: &Pin,
    ) -> Result<(), RestoreError> {
        let touched = writer.clock.wrapping_sub(run.head.age);
        let mut walk = Walk {
            cursor,
            context,
            touched,
            blocks: run.keys.len() as u32,
            next: 0,
        };
        let hash = |name: &[u8; 8]| EngineHash(u64::from_le_bytes(*name));
        run.names
            .iter()
            .take(AHEAD)
            .for_each(|name| writer.names.prefetch(hash(name)));
        let mut ahead = run.names.iter().skip(AHEAD);
        let (mut keys, mut names) = (run.keys.iter(), run.names.iter());
        for &stretch in run.stretches {
            let (skipped, held) = stretch_of(stretch);
            for key in keys.by_ref().take(skipped.into()) {
                walk.go_on(*key, writer, &mut self.pieces, pin)?;
            }
            for (name, key) in names.by_ref().take(held.into()).zip(keys.by_ref()) {
                if let Some(ahead) = ahead.next() {
                    writer.names.prefetch(hash(ahead));
                }
                let place = walk.go_on(*key, writer, &mut self.pieces, pin)?;
                writer.restore_ordinary(hash(name), place, pin)?;
            }
        }
        for key in keys {
            walk.go_on(*key, writer, &mut self.pieces, pin)?;
        }
        Ok(())
    }

    /// A name that is not the ordinary one of its block.
    pub(super) fn name(
        &mut self,
        hash: EngineHash,
        copies: Copies,
        place: Option<Place>,
        writer: &mut Writer,
        pin: &Pin,
    ) -> Result<(), RestoreError> {
        if !self.take_in(1, writer) {
            return Ok(());
        }
        let Some(place) = place else {
            self.dropped += 1;
            return Ok(());
        };
        if writer.names.find(hash).is_some() {
            return Err(RestoreError::NamedTwice(hash));
        }
        let touched = writer
            .holdings
            .get(place.holding)
            .map(|there| there.touched);
        for tier in Tier::ALL
            .into_iter()
            .filter(|tier| copies[tier.index()] > 0)
        {
            writer.enter_tier(place, tier);
        }
        if let (Some(there), Some(touched)) = (writer.holdings.get_mut(place.holding), touched) {
            there.touched = touched;
        }
        writer.names.insert_copies(hash, copies, Some(place));
        if let Some(windows) = &mut writer.windows {
            windows.placed(hash, place, &mut writer.holdings, pin);
        }
        Ok(())
    }

    pub(super) fn waiting(
        &mut self,
        hash: EngineHash,
        copies: Copies,
        why: Why,
        writer: &mut Writer,
        pin: &Pin,
    ) -> Result<(), RestoreError> {
        let unplaced = match why {
            Why::NoContent => Unplaced::NoContent,
            Why::Conflict => Unplaced::Conflict,
            Why::Orphan(orphan) => {
                let context = self.context(orphan.context, writer, pin)?;
                Unplaced::Orphan(Orphan { context, ..orphan })
            }
        };
        if !self.take_in(1, writer) {
            return Ok(());
        }
        if writer.names.find(hash).is_some() {
            return Err(RestoreError::NamedTwice(hash));
        }
        if let Unplaced::Orphan(Orphan {
            parent, context, ..
        }) = unplaced
            && matches!(writer.cursor_after(parent, context), Cursor::After(_))
        {
            return Err(RestoreError::NoOrphan(hash));
        }
        if unplaced != Unplaced::Conflict {
            // As events do: names that turn out to have two contents wait beyond the bound.
            self.waiting += 1;
            within("waiting names", self.waiting as u64, 0..=WAITING_MAX as u64)?;
        }
        writer.names.insert_copies(hash, copies, None);
        writer.waiting.insert(hash, unplaced);
        Ok(())
    }
}

/// The way along a run of a dump.
#[derive(Debug)]
struct Walk {
    cursor: Cursor,
    context: u32,
    /// When the worker last stored something there.
    touched: u32,
    /// Of the run.
    blocks: u32,
    /// The next one.
    next: u32,
}

impl Walk {
    /// Goes on to the block with this key; where it stands.
    #[inline]
    fn go_on(
        &mut self,
        key: [u8; 8],
        writer: &mut Writer,
        pieces: &mut Vec<Piece>,
        pin: &Pin,
    ) -> Result<Place, RestoreError> {
        let key = key_of(u64::from_le_bytes(key))?;
        let block = Block {
            hash: EngineHash(0),
            key,
            context: self.context,
            says_extra: true,
            tier: Tier::Gpu,
            following: self.blocks - self.next,
        };
        let place = writer.descend(self.cursor, &block, key, pin);
        let same = matches!(self.cursor, Cursor::After(before) if before.holding == place.holding);
        if self.next == 0 || !same {
            let from = self.next as u16;
            pieces.push(Piece { from, place });
            writer.restore_touched(place.holding, self.touched);
        }
        self.cursor = Cursor::After(place);
        self.next += 1;
        Ok(place)
    }
}

impl Writer {
    /// The worker last stored something in a run then, or later.
    fn restore_touched(&mut self, at: u32, touched: u32) {
        let clock = self.clock;
        if let Some(holding) = self.holdings.get_mut(at) {
            let age = clock.wrapping_sub(touched);
            // One that holds nothing yet has no time of its own.
            if holding.is_empty() || age < clock.wrapping_sub(holding.touched) {
                holding.touched = touched;
            }
        }
    }

    /// A block with one name of one copy on the GPU.
    #[inline]
    fn restore_ordinary(
        &mut self,
        hash: EngineHash,
        place: Place,
        pin: &Pin,
    ) -> Result<(), RestoreError> {
        if self.names.find(hash).is_some() {
            return Err(RestoreError::NamedTwice(hash));
        }
        let offset = u32::from(place.offset);
        let holding = self.holdings.change(place.holding);
        let Some(holding) = holding.filter(|there| !there.contains(offset)) else {
            return Err(RestoreError::HeldTwice(hash));
        };
        holding.add(offset);
        self.names.insert(hash, Tier::Gpu, Some(place));
        if let Some(windows) = &mut self.windows {
            windows.placed(hash, place, &mut self.holdings, pin);
        }
        Ok(())
    }
}
