"""A service that keeps what it is given."""

from mlepi.tracking import Service, Trackers


class RecordedService(Service):
    def __init__(self):
        self.values, self.summary, self.tables, self.curves = [], {}, {}, {}
        self.images, self.files, self.closed = {}, {}, False

    def log_values(self, values, step):
        self.values.append((step, dict(values)))

    def log_summary(self, values):
        self.summary |= values

    def log_table(self, name, header, rows):
        assert all(len(row) == len(header) for row in rows)
        self.tables[name] = (list(header), [list(row) for row in rows])

    def log_curve(self, name, labels, x, y):
        self.curves[name] = (labels, list(x), list(y))

    def log_image(self, name, path):
        assert path.read_bytes()[:4] == b"\x89PNG"
        self.images[name] = path

    def log_file(self, name, path, kind):
        self.files[name] = (path, kind)

    def close(self):
        self.closed = True


def record_into(monkeypatch, where):
    """Let a module start this service instead of those of the config; return it and the jobs."""
    service, jobs = RecordedService(), []

    def start(config, job):
        jobs.append((config, job))
        return Trackers({"recorded": service})

    monkeypatch.setattr(f"{where}.start_trackers", start)
    return service, jobs
