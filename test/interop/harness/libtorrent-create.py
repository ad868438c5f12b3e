#!/usr/bin/python3
"""A hybrid torrent made by libtorrent: libtorrent-create.py SOURCE TORRENT. Prints its v1 info-hash."""
import os
import sys

import libtorrent as lt

source, target = sys.argv[1:3]
files = lt.file_storage()
lt.add_files(files, source)
torrent = lt.create_torrent(files, 65536)
lt.set_piece_hashes(torrent, os.path.dirname(source))
with open(target, "wb") as out:
    out.write(lt.bencode(torrent.generate()))
print(lt.torrent_info(target).info_hashes().v1)
