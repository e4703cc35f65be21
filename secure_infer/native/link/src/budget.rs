//! How many images each hospital may still ask for.
//!
//! Reference: protocol.md, section 7. The protocol is semi-honest: a hospital that deviates can extract
//! weights, and every answered image leaks something of them. A budget bounds both.
//! Guarantee: an image is counted before its first message is answered, and, with a file, before the
//! count can be lost in a crash.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::LinkError;
use crate::hex;
use crate::tls::Fingerprint;

/// Counts the images of every certificate.
pub struct Budget {
    limit: Option<u64>,
    file: Option<PathBuf>,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Budget {
    /// No more than `limit` images per certificate; counts are kept in `file` across restarts.
    ///
    /// # Errors
    /// [`LinkError::BudgetStore`] if the file is there but can't be read or understood.
    pub fn new(limit: Option<u64>, file: Option<&Path>) -> Result<Self, LinkError> {
        let counts = file.map_or_else(|| Ok(BTreeMap::new()), load)?;
        Ok(Self {
            limit,
            file: file.map(Path::to_owned),
            counts: Mutex::new(counts),
        })
    }

    /// How many images this hospital has left; None if they are not limited.
    pub fn left(&self, peer: &Fingerprint) -> Option<u64> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let used = counts.get(&hex(peer)).copied().unwrap_or(0);
        self.limit.map(|limit| limit.saturating_sub(used))
    }

    /// Refuses unless more than `pending` images are left.
    ///
    /// # Errors
    /// [`LinkError::Budget`].
    pub fn check(&self, peer: &Fingerprint, pending: usize) -> Result<(), LinkError> {
        match (self.left(peer), self.limit) {
            (Some(left), Some(limit)) if left <= pending as u64 => Err(LinkError::Budget { limit }),
            _ => Ok(()),
        }
    }

    /// Counts one image, durably.
    ///
    /// # Errors
    /// [`LinkError::Budget`] if none is left, [`LinkError::BudgetStore`] if it can't be written down.
    pub fn charge(&self, peer: &Fingerprint) -> Result<(), LinkError> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let used = counts.entry(hex(peer)).or_insert(0);
        if let Some(limit) = self.limit.filter(|&limit| *used >= limit) {
            return Err(LinkError::Budget { limit });
        }
        *used += 1;
        match &self.file {
            Some(file) => store(file, &counts).map_err(|error| LinkError::BudgetStore {
                reason: error.to_string(),
            }),
            None => Ok(()),
        }
    }
}

/// One line per certificate: fingerprint, space, count.
fn load(file: &Path) -> Result<BTreeMap<String, u64>, LinkError> {
    let failed = |reason: String| LinkError::BudgetStore { reason };
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error.to_string())),
    };
    let line = |line: &str| {
        let (peer, count) = line.split_once(' ')?;
        let known = peer.len() == 64
            && peer
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        Some((peer.to_owned(), count.parse().ok().filter(|_| known)?))
    };
    text.lines()
        .map(|text| {
            line(text).ok_or_else(|| failed("a damaged line in the count of images".to_owned()))
        })
        .collect()
}

fn store(file: &Path, counts: &BTreeMap<String, u64>) -> std::io::Result<()> {
    let fresh = file.with_extension("new");
    let mut out = File::create(&fresh)?;
    for (peer, count) in counts {
        writeln!(out, "{peer} {count}")?;
    }
    out.sync_all()?;
    fs::rename(&fresh, file)?;
    // The rename itself must survive as well.
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Fingerprint = [0xaa; 32];
    const B: Fingerprint = [0xbb; 32];

    #[test]
    fn budget_is_counted_for_each_hospital_and_survives_a_restart() {
        let folder = std::env::temp_dir().join(format!("blindread-budget-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("images");
        let budget = Budget::new(Some(2), Some(&file)).unwrap();
        budget.charge(&A).unwrap();
        budget.charge(&A).unwrap();
        budget.charge(&B).unwrap();
        assert_eq!(budget.charge(&A).unwrap_err().code(), "budget");
        let again = Budget::new(Some(2), Some(&file)).unwrap();
        assert_eq!((again.left(&A), again.left(&B)), (Some(0), Some(1)));
        assert_eq!(again.check(&A, 0).unwrap_err().code(), "budget");
        assert_eq!(again.check(&B, 1).unwrap_err().code(), "budget");
        again.check(&B, 0).unwrap();
        fs::write(&file, "nonsense\n").unwrap();
        assert_eq!(
            Budget::new(Some(2), Some(&file)).err().unwrap().code(),
            "budget_store"
        );
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(again.charge(&B).unwrap_err().code(), "budget_store");
    }

    #[test]
    fn budget_without_limit_never_refuses() {
        let budget = Budget::new(None, None).unwrap();
        for _ in 0..10 {
            budget.charge(&A).unwrap();
        }
        assert_eq!(budget.left(&A), None);
        budget.check(&A, 1000).unwrap();
    }
}
