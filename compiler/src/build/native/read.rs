//! What is said of a model within an object, a library, or a program that links them.
//!
//! In: the bytes of a file that nobody vouches for. Out: the facts of every model in it, as they were written into `.tern.meta`
//! (which linkers keep, and `strip` may remove). It upholds that no file makes it panic or allocate beyond the file's size.

use object::read::archive::ArchiveFile;
use object::{Object, ObjectSection};
use tern_runtime::artifact::Meta;

use super::object::META_SECTION;

/// The most bytes of one model's facts.
const MAX_FACTS_BYTES: usize = 1 << 20;

/// The facts of every model in a file; none if it is no ELF file or archive, or is damaged.
pub fn facts(bytes: &[u8]) -> Vec<Meta> {
    match ArchiveFile::parse(bytes) {
        Ok(archive) => {
            let members = archive.members().map_while(Result::ok);
            members.filter_map(|member| member.data(bytes).ok()).flat_map(facts_of_elf).collect()
        }
        Err(_) => facts_of_elf(bytes),
    }
}

fn facts_of_elf(bytes: &[u8]) -> Vec<Meta> {
    let Ok(file) = object::File::parse(bytes) else { return Vec::new() };
    let Some(section) = file.section_by_name(META_SECTION) else { return Vec::new() };
    let lines = section.data().unwrap_or_default().split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty() && line.len() <= MAX_FACTS_BYTES);
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}
