//! Folders, as seen now and as they would be found after power loss.
//!
//! Every folder has its live and its durable entries. What changes the live ones is also noted
//! as a [`Change`], in order; syncing a folder applies its changes to the durable entries. A
//! crash forgets the rest, or keeps the changes that chance wrote out in time, each whole: a
//! rename is atomic.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use parking_lot::Mutex;

use super::content::Content;
use super::random::Random;

pub(super) type SharedContent = Arc<Mutex<Content>>;
pub(super) type SharedFolder = Arc<Mutex<Folder>>;

#[derive(Default)]
pub(super) struct Folder {
    pub(super) live: BTreeMap<String, Child>,
    durable: BTreeMap<String, Child>,
}

#[derive(Clone)]
pub(super) enum Child {
    File(SharedContent),
    Folder(SharedFolder),
}

impl Child {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(a), Self::File(b)) => Arc::ptr_eq(a, b),
            (Self::Folder(a), Self::Folder(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// Place of an entry.
#[derive(Clone)]
struct Slot {
    folder: SharedFolder,
    name: String,
}

impl Slot {
    fn is_in(&self, folder: &SharedFolder) -> bool {
        Arc::ptr_eq(&self.folder, folder)
    }

    fn live(&self) -> Option<Child> {
        self.folder.lock().live.get(&self.name).cloned()
    }
}

/// A change of entries that is not durable yet.
enum Change {
    Add { at: Slot, child: Child },
    Remove { at: Slot, child: Child },
    Move { from: Slot, to: Slot, child: Child },
}

impl Change {
    fn add_durable(at: &Slot, child: &Child) {
        at.folder.lock().durable.insert(at.name.clone(), child.clone());
    }

    fn remove_durable(at: &Slot, child: &Child) {
        let durable = &mut at.folder.lock().durable;
        if durable.get(&at.name).is_some_and(|present| present.is_same(child)) {
            durable.remove(&at.name);
        }
    }

    fn apply(&self) {
        match self {
            Self::Add { at, child } => Self::add_durable(at, child),
            Self::Remove { at, child } => Self::remove_durable(at, child),
            Self::Move { from, to, child } => {
                Self::remove_durable(from, child);
                Self::add_durable(to, child);
            }
        }
    }

    /// Applies what syncing `folder` makes durable and returns what is left to do.
    fn sync(self, folder: &SharedFolder) -> Option<Self> {
        match self {
            Self::Add { ref at, .. } | Self::Remove { ref at, .. } if !at.is_in(folder) => {
                Some(self)
            }
            Self::Move { ref from, ref to, .. } if !from.is_in(folder) && !to.is_in(folder) => {
                Some(self)
            }
            // The old name goes only with its own folder; until then a crash shows both.
            Self::Move { from, to, child } if !from.is_in(folder) => {
                Self::add_durable(&to, &child);
                Some(Self::Remove { at: from, child })
            }
            Self::Add { .. } | Self::Remove { .. } | Self::Move { .. } => {
                self.apply();
                None
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Tree {
    root: SharedFolder,
    pending: Vec<Change>,
}

impl Tree {
    pub(super) fn file(&self, path: &Path) -> io::Result<SharedContent> {
        match self.child(path)? {
            Child::File(content) => Ok(content),
            Child::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn folder(&self, path: &Path) -> io::Result<SharedFolder> {
        match self.child(path)? {
            Child::Folder(folder) => Ok(folder),
            Child::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn child(&self, path: &Path) -> io::Result<Child> {
        let mut at = Child::Folder(Arc::clone(&self.root));
        for name in names(path) {
            let Child::Folder(folder) = at else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            let next = folder.lock().live.get(&name).cloned();
            at = next.ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    pub(super) fn create_file(&mut self, path: &Path, mode: u32) -> io::Result<SharedContent> {
        let content = Arc::new(Mutex::new(Content::new(mode)));
        self.add(self.slot(path)?, Child::File(Arc::clone(&content)))?;
        Ok(content)
    }

    /// Creates one folder.
    pub(super) fn create_folder(&mut self, path: &Path) -> io::Result<()> {
        self.add(self.slot(path)?, Child::Folder(SharedFolder::default()))
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let slot = self.slot(path)?;
        match slot.live() {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(Child::Folder(_)) => Err(io::ErrorKind::IsADirectory.into()),
            Some(child) => {
                self.remove(slot, child);
                Ok(())
            }
        }
    }

    /// Removes a folder and, one after another, everything in it.
    pub(super) fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        let folder = self.folder(path)?;
        let slot = self.slot(path)?;
        self.remove_entries(&folder);
        self.remove(slot, Child::Folder(folder));
        Ok(())
    }

    fn remove_entries(&mut self, folder: &SharedFolder) {
        let entries = folder.lock().live.clone();
        for (name, child) in entries {
            if let Child::Folder(inner) = &child {
                self.remove_entries(inner);
            }
            self.remove(Slot { folder: Arc::clone(folder), name }, child);
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_slot, to_slot) = (self.slot(from)?, self.slot(to)?);
        let child = from_slot.live().ok_or(io::ErrorKind::NotFound)?;
        if let Some(target) = to_slot.live() {
            match (&child, &target) {
                _ if child.is_same(&target) => return Ok(()),
                (Child::File(_), Child::Folder(_)) => {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                (Child::Folder(_), Child::File(_)) => {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
                (Child::Folder(_), Child::Folder(folder)) if !folder.lock().live.is_empty() => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                _ => {}
            }
        }
        if matches!(child, Child::Folder(_)) && names(to).starts_with(&names(from)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        from_slot.folder.lock().live.remove(&from_slot.name);
        to_slot.folder.lock().live.insert(to_slot.name.clone(), child.clone());
        self.pending.push(Change::Move { from: from_slot, to: to_slot, child });
        Ok(())
    }

    pub(super) fn sync(&mut self, folder: &SharedFolder) {
        let pending = std::mem::take(&mut self.pending);
        self.pending = pending.into_iter().filter_map(|change| change.sync(folder)).collect();
    }

    /// Bytes of the volume in use.
    pub(super) fn used(&self) -> u64 {
        fn used(folder: &SharedFolder) -> u64 {
            let bytes = |child: &Child| match child {
                Child::File(content) => content.lock().allocated_bytes(),
                Child::Folder(folder) => used(folder),
            };
            folder.lock().live.values().map(bytes).sum()
        }
        used(&self.root)
    }

    /// What is found after power loss. Changes that chance keeps are made durable in this tree
    /// as well, which is not to be used any more.
    pub(super) fn after_crash(&mut self, mut chance: Option<&mut Random>) -> Self {
        if let Some(chance) = chance.as_deref_mut() {
            self.pending.retain(|_| chance.coin());
            for change in &self.pending {
                change.apply();
            }
        }
        Self { root: survivors(&self.root, &mut chance), pending: Vec::new() }
    }

    fn add(&mut self, at: Slot, child: Child) -> io::Result<()> {
        if at.live().is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        at.folder.lock().live.insert(at.name.clone(), child.clone());
        self.pending.push(Change::Add { at, child });
        Ok(())
    }

    fn remove(&mut self, at: Slot, child: Child) {
        at.folder.lock().live.remove(&at.name);
        self.pending.push(Change::Remove { at, child });
    }

    fn slot(&self, path: &Path) -> io::Result<Slot> {
        let mut names = names(path);
        let name = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = self.folder(&names.iter().collect::<std::path::PathBuf>())?;
        Ok(Slot { folder, name })
    }
}

fn survivors(folder: &SharedFolder, chance: &mut Option<&mut Random>) -> SharedFolder {
    let durable = folder.lock().durable.clone();
    let found: BTreeMap<String, Child> = durable
        .into_iter()
        .map(|(name, child)| {
            let child = match child {
                Child::File(content) => Child::File(Arc::new(Mutex::new(
                    content.lock().after_crash(chance.as_deref_mut()),
                ))),
                Child::Folder(folder) => Child::Folder(survivors(&folder, chance)),
            };
            (name, child)
        })
        .collect();
    Arc::new(Mutex::new(Folder { live: found.clone(), durable: found }))
}

/// The names on the way from the root; a relative path starts there as well.
fn names(path: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => {
                names.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    names
}
