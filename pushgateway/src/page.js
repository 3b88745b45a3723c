// Deletion with a question, a command to copy, and the address as this browser sees it.
for (const code of document.querySelectorAll(".push code")) {
  code.textContent = code.textContent.replace("__HOST__", location.origin);
}
// Pages that come unencrypted from another machine have no clipboard but what is selected.
async function copy(element) {
  if (navigator.clipboard) return navigator.clipboard.writeText(element.textContent);
  getSelection().selectAllChildren(element);
  document.execCommand("copy");
}
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.hasAttribute("data-copy")) {
    await copy(button.parentElement.querySelector("code"));
    button.textContent = "Copied";
    return;
  }
  const { method, path, ask } = button.dataset;
  if (!method || !confirm(ask)) return;
  button.disabled = true;
  const answer = await fetch(path, { method }).catch((error) => ({ ok: false, statusText: String(error) }));
  if (answer.ok) {
    location.reload();
  } else {
    button.disabled = false;
    alert("Not deleted: " + answer.statusText);
  }
});
