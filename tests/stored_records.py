"""Records back from their HDF5 groups, without a store."""

from mlepi.results.hdf5 import build_record, read_fields


def read_record(group, record_type):
    return build_record(read_fields(group), record_type, f"{group.file.filename}:{group.name}")
