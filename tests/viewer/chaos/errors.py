"""What goes wrong anywhere in the process: exceptions in slots and threads, and words of Qt."""

import sys
import threading
import traceback
import warnings

from napari.utils.notifications import notification_manager
from qtpy.QtCore import QtMsgType, qInstallMessageHandler

# Qt says so on any Linux without a session bus or a window manager; nothing of it is ours.
_OF_THE_MACHINE = ("propagateSizeHints", "dbus", "XDG_RUNTIME_DIR", "QStandardPaths", "QSocket")


class Errors:
    """Collects errors while it is entered.

    Attributes:
        found: what went wrong.
        warned: warnings that a user of napari would see as notifications.
    """

    def __init__(self):
        self.found = []
        self.warned = []

    def __enter__(self):
        # An exception in a slot reaches `sys.excepthook`; with Python's own, PyQt would abort.
        self._hooks = (sys.excepthook, sys.unraisablehook, threading.excepthook)
        self._show = warnings.showwarning
        sys.excepthook = self._on_exception
        sys.unraisablehook = self._on_unraisable
        threading.excepthook = lambda args: self._on_exception(
            args.exc_type, args.exc_value, args.exc_traceback
        )
        warnings.showwarning = self._on_warning
        self._qt = qInstallMessageHandler(self._on_qt)
        notification_manager.notification_ready.connect(self._on_notification)
        return self

    def __exit__(self, *args):
        sys.excepthook, sys.unraisablehook, threading.excepthook = self._hooks
        warnings.showwarning = self._show
        qInstallMessageHandler(self._qt)
        notification_manager.notification_ready.disconnect(self._on_notification)

    def _on_exception(self, kind, error, trace):
        self.found.append("".join(traceback.format_exception(kind, error, trace)))

    def _on_unraisable(self, args):
        # Objects of C++ that are gone while Python collects garbage: nobody sees anything of it.
        if args.exc_value is not None:
            self.warned.append(f"unraisable: {args.exc_value!r} in {args.object!r}"[:300])

    def _on_warning(self, message, category, filename, lineno, file=None, line=None):
        if issubclass(category, UserWarning | RuntimeWarning):
            self.warned.append(f"{category.__name__}: {message} ({filename}:{lineno})")

    def _on_qt(self, kind, context, message):
        if kind in (QtMsgType.QtCriticalMsg, QtMsgType.QtFatalMsg):
            self.found.append(f"Qt: {message}")
        elif kind == QtMsgType.QtWarningMsg and not any(w in message for w in _OF_THE_MACHINE):
            self.warned.append(f"Qt: {message}")

    def _on_notification(self, notification):
        if str(notification.severity) == "error":
            error = getattr(notification, "exception", None)
            lines = traceback.format_exception(error) if error is not None else []
            self.found.append(f"napari: {notification.message}\n{''.join(lines)}")
        elif str(notification.severity) == "warning":
            self.warned.append(f"napari: {notification.message}")
