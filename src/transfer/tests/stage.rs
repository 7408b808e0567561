//! How contents come into the stage.

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use super::super::{clear_stage, sweep};
use super::*;

fn big(seed: u8) -> Vec<u8> {
    (0..700_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect()
}

#[test]
fn every_content_arrives_verified() {
    let world = World::new();
    let mut source = Memory::of(&[&b""[..], b"x", &big(0)]);
    let wanted = source.wanted();
    assert_eq!(world.stage(&wanted, &mut source), vec![Ok(()); 3]);
    for (wanted, content) in wanted.iter().zip(&source.contents) {
        assert_eq!(fs::read(world.in_stage(wanted.digest.to_string())).unwrap(), *content);
    }
    assert_eq!(world.stage(&wanted, &mut Nobody), vec![Ok(()); 3], "what is staged is not sent again");
}

#[test]
fn a_wrong_content_is_refused_and_removed() {
    let world = World::new();
    let mut source = Memory::of(&["right", "also"]);
    let mut wanted = source.wanted();
    for (index, (name, digest, size)) in [
        ("other content", digest(b"wrong"), 5),
        ("too short", digest(b"right"), 6),
        ("too long", digest(b"right"), 4),
    ]
    .into_iter()
    .enumerate()
    {
        wanted[0].digest = digest;
        wanted[0].size = size;
        let received = world.stage(&wanted, &mut source);
        assert!(received[0].is_err(), "{name}");
        assert_eq!(received[1], Ok(()), "{name}");
        assert_eq!(world.own_files().len(), 1, "{name}, {index}");
    }
}

#[test]
fn many_small_contents_are_taken_or_refused_each_by_itself() {
    let world = World::new();
    let contents: Vec<String> = (0..200).map(|number| number.to_string().repeat(1 + number)).collect();
    let mut source = Memory::of(&contents.iter().map(String::as_str).collect::<Vec<_>>());
    let mut wanted = source.wanted();
    wanted[7].digest = digest(b"other");
    wanted[8].size += 1;
    wanted[9].size -= 1;
    let received = world.stage(&wanted, &mut source);
    let refused: Vec<usize> = (0..200).filter(|number| received[*number].is_err()).collect();
    assert_eq!(refused, [7, 8, 9], "{received:?}");
    for (number, content) in contents.iter().enumerate().filter(|(number, _)| !(7..=9).contains(number)) {
        let staged = world.in_stage(wanted[number].digest.to_string());
        assert_eq!(fs::read_to_string(staged).unwrap(), *content);
    }
    assert_eq!(world.own_files().len(), 197, "what was refused is gone");
}

#[test]
fn small_sparse_files_among_many_others_stay_sparse() {
    let (from, to) = (World::new(), World::new());
    let sparse = fs::File::create(from.at("sparse")).unwrap();
    sparse.write_all_at(b"begin", 0).unwrap();
    sparse.write_all_at(b"end", 150_000).unwrap();
    drop(sparse);
    for number in 0..50 {
        from.write(format!("f{number}"), format!("content {number}"));
    }
    let names: Vec<String> = (0..50).map(|number| format!("f{number}")).chain(["sparse".into()]).collect();
    from.scan();
    let wanted: Vec<BlobRequest> = names.iter().map(|name| wanted(name, &from.read(name))).collect();
    assert_eq!(to.stage(&wanted, &mut source_of(&from)), vec![Ok(()); 51]);
    let staged = to.in_stage(wanted[50].digest.to_string());
    assert_eq!(fs::read(&staged).unwrap(), from.read("sparse"));
    let blocks = |path| fs::metadata(path).unwrap().blocks();
    assert_eq!(blocks(staged), blocks(from.at("sparse")));
}

#[test]
fn a_cut_transfer_goes_on_where_it_was() {
    let world = World::new();
    let content = big(1);
    let mut source = Memory::of(&[content.as_slice()]);
    source.cut_after = Some(400_000);
    let wanted = source.wanted();
    let received = world.stage(&wanted, &mut source);
    assert!(received[0].as_ref().is_err_and(|why| why.contains("the line is dead")), "{received:?}");

    source.cut_after = None;
    source.asked.clear();
    assert_eq!(world.stage(&wanted, &mut source), [Ok(())]);
    assert_eq!(source.asked[0].offset, 400_000);
    assert_eq!(fs::read(world.in_stage(wanted[0].digest.to_string())).unwrap(), content);
}

#[test]
fn a_part_that_is_not_right_is_found_out() {
    let world = World::new();
    let content = big(1);
    let mut source = Memory::of(&[content.as_slice()]);
    let wanted = source.wanted();
    let part = world.in_stage(format!("{}.part", wanted[0].digest));
    fs::write(&part, "x".repeat(1000)).unwrap();
    assert!(world.stage(&wanted, &mut source)[0].is_err());
    assert!(!part.exists());
    assert_eq!(world.stage(&wanted, &mut source), [Ok(())]);

    // A part that has other names is written into nowhere but here.
    fs::remove_file(world.in_stage(wanted[0].digest.to_string())).unwrap();
    let victim = world.at("victim");
    fs::write(&victim, &content[..1000]).unwrap();
    fs::hard_link(&victim, &part).unwrap();
    assert_eq!(world.stage(&wanted, &mut source), [Ok(())]);
    assert_eq!(fs::read(&victim).unwrap(), &content[..1000]);
}

/// As a disk may leave it that lost power: its name and its size are right.
#[test]
fn a_damaged_leftover_of_the_right_size_is_never_reused() {
    for content in [b"small".to_vec(), big(1)] {
        for (suffix, length) in [("", content.len()), (".part", content.len()), (".part", content.len() - 1)]
        {
            let world = World::new();
            let mut source = Memory::of(&[content.as_slice()]);
            let requests = source.wanted();
            let mut damaged = content[..length].to_vec();
            damaged[length / 2] ^= 1;
            let left = world.in_stage(format!("{}{suffix}", requests[0].digest));
            let name = format!("{} bytes as *{suffix}, {length}", content.len());

            // A plan may name what nobody staged.
            fs::write(&left, &damaged).unwrap();
            assert!(
                is_failed(&world.commit(&[world.put("a", file(&content))])[0], "did not arrive"),
                "{name}"
            );
            assert!(!world.at("a").exists(), "{name}");

            fs::write(&left, &damaged).unwrap();
            assert!(world.stage(&requests, &mut Nobody)[0].is_err(), "{name}");
            assert!(
                is_failed(&world.commit(&[world.put("a", file(&content))])[0], "did not arrive"),
                "{name}"
            );
            assert!(!world.at("a").exists(), "{name}");

            fs::write(&left, &damaged).unwrap();
            if length == content.len() {
                assert_eq!(world.stage(&requests, &mut source), [Ok(())], "{name}");
            } else {
                assert!(world.stage(&requests, &mut source)[0].is_err(), "{name}");
                assert!(!left.exists(), "{name}: the next run would fail as well");
                assert_eq!(world.stage(&requests, &mut source), [Ok(())], "{name}");
            }
            assert_eq!(world.commit(&[world.put("a", file(&content))]), [Outcome::Done], "{name}");
            assert_eq!(world.read("a"), content, "{name}");
        }
    }
}

#[test]
fn a_leftover_is_read_and_reused_even_with_the_owner_and_mode_it_shall_have() {
    for suffix in ["", ".part"] {
        let world = World::new();
        let contents: Vec<Vec<u8>> = (0..50_u8).map(|n| vec![n; 1 + usize::from(n)]).collect();
        let requests = Memory::of(&contents).wanted();
        for (request, content) in requests.iter().zip(&contents) {
            fs::write(world.in_stage(format!("{}{suffix}", request.digest)), content).unwrap();
        }
        if suffix.is_empty() {
            // A commit was ended after it had readied this one.
            let ready = world.in_stage(requests[7].digest.to_string());
            chmod(&ready, 0o400);
            std::os::unix::fs::chown(&ready, Some(1), Some(1)).unwrap();
        }
        assert_eq!(world.stage(&requests, &mut Nobody), vec![Ok(()); 50], "{suffix}");
        for (request, content) in requests.iter().zip(&contents) {
            assert_eq!(fs::read(world.in_stage(request.digest.to_string())).unwrap(), *content);
        }
    }
}

#[test]
fn a_leftover_with_another_name_elsewhere_is_not_reused() {
    let world = World::new();
    let mut source = Memory::of(&["content"]);
    let requests = source.wanted();
    world.write("elsewhere", "content");
    fs::hard_link(world.at("elsewhere"), world.in_stage(requests[0].digest.to_string())).unwrap();
    assert_eq!(world.stage(&requests, &mut source), [Ok(())]);
    assert_eq!(source.asked.len(), 1);
    let mode = fs::metadata(world.at("elsewhere")).unwrap().mode();
    let Entry::File(mut private) = file("content") else { unreachable!() };
    private.meta.mode = 0o600;
    assert_eq!(world.commit(&[world.put("a", Entry::File(private))]), [Outcome::Done]);
    assert_eq!(fs::metadata(world.at("elsewhere")).unwrap().mode(), mode, "its other name stays as it is");
}

#[test]
fn what_the_host_has_is_copied_not_sent() {
    let world = World::new();
    world.write("d/sound", "sound").write("gone", "in the trash").scan();
    assert_eq!(world.commit(&[world.delete("gone")]), [Outcome::Done]);
    world.scan();
    let wanted = Memory::of(&["sound", "in the trash"]).wanted();
    assert_eq!(world.stage(&wanted, &mut Nobody), vec![Ok(()); 2]);
    let staged = |content: &[u8]| world.in_stage(digest(content).to_string());
    assert_eq!(fs::read(staged(b"in the trash")).unwrap(), b"in the trash");
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    assert_ne!(inode(staged(b"sound")), inode(world.at("d/sound")), "a copy, no second name");
}

#[test]
fn a_damaged_index_of_the_trash_costs_a_transfer_at_most() {
    let world = World::new();
    world.write("a", "old").scan().stage_all(&["new"]);
    assert_eq!(world.commit(&[world.put("a", file("new"))]), [Outcome::Done]);
    let index = world.at(format!(".xds-sync/trash/{RUN}/index"));
    let good = fs::read(&index).unwrap();
    let cut = (0..good.len()).map(|at| good[..at].to_vec());
    let flipped = (0..good.len()).map(|at| {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        flipped
    });
    for damaged in cut.chain(flipped).chain([b"\0 \0  \0".to_vec()]) {
        fs::write(&index, &damaged).unwrap();
        let mut source = Memory::of(&["old"]);
        assert_eq!(world.stage(&source.wanted(), &mut source), [Ok(())]);
        let staged = world.in_stage(digest(b"old").to_string());
        assert_eq!(fs::read(&staged).unwrap(), b"old", "{}", String::from_utf8_lossy(&damaged));
        fs::remove_file(staged).unwrap();
        assert_eq!(fs::read(world.trashed("0", "a")).unwrap(), b"old");
    }
}

#[test]
fn what_changed_since_the_scan_is_sent_after_all() {
    let world = World::new();
    world.write("d/sound", "sound").scan();
    world.write("d/sound", "SOUND");
    let mut source = Memory::of(&["sound"]);
    assert_eq!(world.stage(&source.wanted(), &mut source), [Ok(())]);
    assert_eq!(source.asked.len(), 1);
}

fn wanted(at: &str, content: &[u8]) -> BlobRequest {
    BlobRequest { path: path(at), digest: digest(content), size: content.len() as u64, offset: 0 }
}

#[test]
fn a_root_is_a_source() {
    let from = World::new();
    let content = big(2);
    for (at, content) in [("d/big", &content[..]), ("edited", b"old"), ("grown", b"1"), ("removed", b"r")] {
        from.write(at, content);
    }
    fs::create_dir(from.at("dir")).unwrap();
    std::os::unix::fs::symlink("edited", from.at("symlink")).unwrap();
    from.scan();
    from.write("edited", "new").write("grown", "1 and more").write("later", "later");
    fs::remove_file(from.at("removed")).unwrap();

    let to = World::new();
    let mut source = source_of(&from);
    for (wanted, why) in [
        (wanted("d/big", &content), ""),
        (wanted("d/big", b"not that"), "changed since it was scanned"),
        (wanted("edited", b"new"), "changed since it was scanned"),
        (wanted("grown", b"1"), "changed since it was scanned"),
        (wanted("removed", b"r"), "No such file"),
        (wanted("later", b"later"), "not in the directory"),
        (wanted("dir", b"dir"), "no longer a regular file"),
        (wanted("symlink", b"old"), "symbolic links"),
        (wanted(".xds-sync/trash/x", b"x"), "not in the directory"),
    ] {
        let path = wanted.path.clone();
        match &to.stage(&[wanted], &mut source)[..] {
            [Ok(())] => assert_eq!(why, "", "{path:?}"),
            [Err(told)] => assert!(!why.is_empty() && told.contains(why), "{path:?}: {told}"),
            received => unreachable!("{received:?}"),
        }
    }
    assert_eq!(fs::read(to.in_stage(digest(&content).to_string())).unwrap(), content);
}

#[test]
fn sparse_files_stay_sparse() {
    const SIZE: u64 = 64 << 20;
    let from = World::new();
    let sparse = fs::File::create(from.at("sparse")).unwrap();
    sparse.set_len(SIZE).unwrap();
    sparse.write_all_at(b"in the middle", 20 << 20).unwrap();
    sparse.sync_all().unwrap();
    drop(sparse);
    let content = from.scan().read("sparse");
    let to = World::new();
    assert_eq!(to.stage(&[wanted("sparse", &content)], &mut source_of(&from)), [Ok(())]);
    to.scan();
    let outcomes = to.commit(&[to.put("a", file(&content)), to.put("b", file(&content))]);
    assert_eq!(outcomes, vec![Outcome::Done; 2]);
    for name in ["a", "b"] {
        assert_eq!(to.read(name), content);
        let blocks = fs::metadata(to.at(name)).unwrap().blocks() * 512;
        assert!(blocks < 1 << 20, "{name} takes {blocks} bytes");
    }
}

#[test]
fn a_full_disk_fails_what_does_not_fit_alone() {
    let disk = SmallDisk::new();
    let world = World::in_dir(tempfile::tempdir_in(&disk.0).unwrap());
    let (small, large) = (vec![1; 100_000], vec![2; 3 << 20]);
    let mut source = Memory::of(&[large.as_slice(), &small]);
    let received = world.stage(&source.wanted(), &mut source);
    let why = received[0].as_ref().unwrap_err();
    assert!(why.starts_with("needs 3.0 MiB, ") && why.contains(" free on /"), "{why}");
    assert_eq!(received[1], Ok(()));
    assert_eq!(source.asked.len(), 1, "nothing is sent in vain");
}

#[test]
fn a_disk_that_fills_up_meanwhile_fails_one_file_and_takes_the_next() {
    let disk = SmallDisk::new();
    let world = World::in_dir(tempfile::tempdir_in(&disk.0).unwrap());
    let (large, small) = (vec![2; 1 << 20], vec![1; 100_000]);
    let memory = Memory::of(&[large.as_slice(), &small]);
    let wanted = memory.wanted();
    // It was counted as free, and then somebody else took it.
    let filler = disk.0.join("filler");
    let received = world.stage(&wanted, &mut Filling { memory, filler: filler.clone() });
    assert!(received[0].as_ref().is_err_and(|why| why.contains("No space left")), "{received:?}");
    assert_eq!(received[1], Ok(()));
    assert_eq!(world.own_files().len(), 1, "the part that did not fit is gone");
}

/// Takes nearly all of a disk before it sends.
struct Filling {
    memory: Memory,
    filler: PathBuf,
}

impl Source for Filling {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        fs::write(&self.filler, vec![3; (3 << 20) / 2])?;
        self.memory.send(wanted, sink)
    }
}

#[test]
fn a_commit_that_finds_the_disk_full_drops_what_is_left_in_the_stage() {
    let disk = SmallDisk::with(c"size=8m,nr_inodes=40");
    let world = World::in_dir(tempfile::tempdir_in(&disk.0).unwrap());
    let contents = [vec![1; 1000], vec![2; 1000], vec![3; 1000]];
    let mut source = Memory::of(&contents.each_ref().map(Vec::as_slice));
    assert_eq!(world.stage(&source.wanted(), &mut source), vec![Ok(()); 3]);
    world.scan();
    // Somebody else makes as many files as there can be.
    let made = (0..100).take_while(|number| fs::write(disk.0.join(format!("{number}")), "").is_ok()).count();
    assert!((1..100).contains(&made), "{made}");
    let outcomes = world.commit(&[world.put("a", file(&contents[0])), world.put("dir", dir(0o755))]);
    assert_eq!(outcomes[0], Outcome::Done);
    assert!(matches!(&outcomes[1], Outcome::Failed(why) if why.contains("No space left")), "{outcomes:?}");
    assert_eq!(world.read("a"), contents[0]);
    assert_eq!(world.own_files(), BTreeMap::new());
}

#[test]
fn many_tiny_files_are_counted_in_blocks() {
    let disk = SmallDisk::new();
    let world = World::in_dir(tempfile::tempdir_in(&disk.0).unwrap());
    // 600 files of some bytes: a few KiB of content, and 2.4 MiB of blocks.
    let contents: Vec<Vec<u8>> = (0..600).map(|number: u32| number.to_le_bytes().to_vec()).collect();
    let mut source = Memory::of(&contents.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let received = world.stage(&source.wanted(), &mut source);
    let staged = received.iter().filter(|received| received.is_ok()).count();
    assert!((300..510).contains(&staged), "{staged}");
    let why = received[599].as_ref().unwrap_err();
    assert!(why.starts_with("needs 4 B, ") && why.ends_with("stay free"), "{why}");
    assert_eq!(source.asked.len(), staged, "nothing is sent in vain");
}

/// A filesystem of 2 MiB.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new() -> SmallDisk {
        SmallDisk::with(c"size=2m")
    }

    fn with(options: &CStr) -> SmallDisk {
        assert!(rustix::process::geteuid().is_root(), "needs root, to mount a small filesystem");
        let at = tempfile::tempdir().unwrap().keep();
        rustix::mount::mount("tmpfs", &at, "tmpfs", rustix::mount::MountFlags::empty(), options).unwrap();
        SmallDisk(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
        fs::remove_dir(&self.0).unwrap();
    }
}

#[test]
fn a_sweep_keeps_contents_for_a_week_and_loses_nothing_unknown() {
    const DAY: i64 = 86_400_000_000_000;
    let world = World::new();
    let name = digest(b"x").to_string();
    let part = format!("{name}.part");
    for staged in [&*name, &*part, "making.3", "making.x", "unknown", &name[1..], &format!("{name}.")] {
        fs::write(world.in_stage(staged), "x").unwrap();
    }
    fs::create_dir(world.in_stage("making.4")).unwrap();
    fs::create_dir(world.in_stage("making.5")).unwrap();
    fs::write(world.in_stage("making.5/precious"), "x").unwrap();
    std::os::unix::fs::symlink("/etc", world.in_stage("link")).unwrap();

    let now = Stamp::of(&rustix::fs::stat(world.in_stage(&name)).unwrap()).ctime;
    let left = |world: &World| {
        let mut names: Vec<String> = fs::read_dir(world.in_stage(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    sweep(&world.own, RUN, now + 6 * DAY).unwrap();
    assert_eq!(left(&world), [name.clone(), part]);
    let mut found: Vec<String> = fs::read_dir(world.trashed("found", ""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let mut expected = vec!["making.5", "making.x", "unknown", "link", &name[1..]]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("{name}.")])
        .collect::<Vec<_>>();
    expected.sort();
    assert_eq!(found, expected);

    sweep(&world.own, RUN, now + 8 * DAY).unwrap();
    assert!(left(&world).is_empty());
}

#[test]
fn a_stage_is_cleared_of_all_contents_and_loses_nothing_unknown() {
    let world = World::new();
    let name = digest(b"x").to_string();
    for staged in [&*name, &format!("{name}.part"), "making.3", "unknown"] {
        fs::write(world.in_stage(staged), "x").unwrap();
    }
    clear_stage(&world.own, RUN).unwrap();
    assert_eq!(fs::read_dir(world.in_stage("")).unwrap().count(), 0);
    assert_eq!(fs::read(world.trashed("found", "unknown")).unwrap(), b"x");
    // What a later run wants is sent again.
    let mut source = Memory::of(&["x"]);
    assert_eq!(world.stage(&source.wanted(), &mut source), [Ok(())]);
}
