//! Sub-Manifests as they may lie in a tree (GLEP 74, "Manifest compression"): what unpacks is bounded.

use std::io::{self, Read};

use super::MANIFEST_BYTES_MAX;

/// An xz dictionary of the largest preset is 64 MiB.
const XZ_MEMORY_BYTES_MAX: u64 = 128 << 20;

/// A Manifest's own octets, by the extension of its name, which need not begin with `Manifest`; or why there are none.
pub(super) fn unpack(path: &str, octets: Vec<u8>) -> Result<Vec<u8>, String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty());
    let packed = octets.as_slice();
    let unpacked = match extension.map(|(_, extension)| extension) {
        Some("gz") => read_bounded(flate2::bufread::MultiGzDecoder::new(packed)),
        Some("bz2") => read_bounded(bzip2::bufread::MultiBzDecoder::new(packed)),
        Some("xz") => xz2::stream::Stream::new_stream_decoder(XZ_MEMORY_BYTES_MAX, xz2::stream::CONCATENATED)
            .map_err(io::Error::from)
            .and_then(|stream| read_bounded(xz2::bufread::XzDecoder::new_stream(packed, stream))),
        Some("lzma") => xz2::stream::Stream::new_lzma_decoder(XZ_MEMORY_BYTES_MAX)
            .map_err(io::Error::from)
            .and_then(|stream| read_bounded(xz2::bufread::XzDecoder::new_stream(packed, stream))),
        Some("zst") => zstd::Decoder::with_buffer(packed).and_then(read_bounded),
        _ => return Ok(octets),
    };
    let unpacked = unpacked.map_err(|error| format!("can't be unpacked: {error}"))?;
    if unpacked.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(format!("more than {MANIFEST_BYTES_MAX} octets unpacked"));
    }
    Ok(unpacked)
}

/// One octet more than is allowed, if there are so many.
fn read_bounded(decoder: impl Read) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    decoder.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn packed(extension: &str, text: &[u8]) -> Vec<u8> {
        match extension {
            "gz" => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            "bz2" => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            "xz" => {
                let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 1);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            "lzma" => {
                let options = xz2::stream::LzmaOptions::new_preset(1).unwrap();
                let stream = xz2::stream::Stream::new_lzma_encoder(&options).unwrap();
                let mut encoder = xz2::write::XzEncoder::new_stream(Vec::new(), stream);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            _ => zstd::encode_all(text, 1).unwrap(),
        }
    }

    const EXTENSIONS: [&str; 5] = ["gz", "bz2", "xz", "lzma", "zst"];

    #[test]
    fn every_compression_comes_off_and_a_cut_is_refused() {
        let text = b"IGNORE a\nIGNORE b\n".repeat(50);
        for extension in EXTENSIONS {
            let path = format!("a/Manifest.files.{extension}");
            let whole = packed(extension, &text);
            assert_eq!(unpack(&path, whole.clone()).unwrap(), text, "{extension}");
            for end in 1..whole.len() {
                match unpack(&path, whole[..end].to_vec()) {
                    Err(why) => assert!(why.starts_with("can't be unpacked: "), "{why}"),
                    // A trailer that says nothing new may be missing.
                    Ok(unpacked) => assert_eq!(unpacked, text, "{extension} cut at {end}"),
                }
            }
        }
        assert_eq!(unpack("a/Manifest.files", b"x".to_vec()).unwrap(), b"x");
        assert_eq!(unpack("a/.gz", b"x".to_vec()).unwrap(), b"x", "a name without an extension");
        assert_eq!(unpack("a/list.gz", packed("gz", &text)).unwrap(), text);
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let zeros = vec![0; usize::try_from(MANIFEST_BYTES_MAX).unwrap() + 1];
        for extension in ["gz", "zst"] {
            let error = unpack(&format!("Manifest.{extension}"), packed(extension, &zeros)).unwrap_err();
            assert!(error.contains("octets unpacked"), "{error}");
        }
    }
}
