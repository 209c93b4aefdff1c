from assay.observers import Observer, Observers, Recorder


def _tell(observer):
    observer.on_start("train", 2)
    observer.on_step("train", 1, {"loss": 0.5})
    observer.on_step("train", 2)
    observer.on_query("victim", 3, 7)
    observer.on_end("train", {"epochs": 2})
    observer.on_end("train")


EVENTS = [
    ("start", "train", 2),
    ("step", "train", 1, {"loss": 0.5}),
    ("step", "train", 2, {}),
    ("query", "victim", 3, 7),
    ("end", "train", {"epochs": 2}),
    ("end", "train", {}),
]


def test_recorder_keeps_every_event():
    log = Recorder()
    _tell(log)
    assert log.events == EVENTS


def test_several_observers_hear_the_same_in_order():
    first, second = Recorder(), Recorder()
    _tell(Observers([first, Observer(), Observers([second])]))
    assert first.events == second.events == EVENTS


def test_nobody_listening_is_fine():
    _tell(Observers())
    _tell(Observer())
